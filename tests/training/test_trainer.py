"""The training step: which network each phase trains, and on what."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from assemblies import ProjectedDiscriminator, check, parse
from blocks.families import Backbone
from ganblocks.data.digits import digits
from ganblocks.errors import DivergedError
from ganblocks.pixels import from_bytes
from ganblocks.training import trainer as trainer_module
from ganblocks.training.step import non_finite
from ganblocks.training.step.micro_batches import PhaseLosses
from registry import IncompatibleError
from tests import tiny
from tests.training.conftest import log_records, new_trainer, real_images, run


def return_nan(loss, phase):
    """Make a loss not a number."""
    original = getattr(loss, phase)
    setattr(loss, phase, lambda *logits: original(*logits) * float("nan"))


def test_a_step_with_non_finite_gradients_is_skipped_and_named(trainer):
    return_nan(trainer.gan.loss, "generator")
    before = {name: value.clone() for name, value in trainer.generator.named_parameters()}
    trainer.train_step(real_images(), None)
    assert all(torch.equal(value, before[name]) for name, value in trainer.generator.named_parameters())
    ((where, times),) = trainer.non_finite.read().items()
    assert times == 1
    assert re.match(r"generator \(generator\): \S+, \S+, \S+ and \d+ more", where)
    assert trainer.non_finite.read() == {}
    assert all(value.isfinite().all() for value in trainer.discriminator.parameters())
    assert trainer.optimizers["discriminator"].adam.state


def test_training_stops_when_gradients_stay_non_finite(tmp_path, monkeypatch):
    monkeypatch.setattr(non_finite, "MAX_NON_FINITE", 5)
    broken = tiny.gan(discriminator_optimizer={"lr": 1e30})
    with pytest.raises(DivergedError, match=r"\d+ times in a row, before step"):
        run(broken, tmp_path / "run", steps=8, log_every_kimg=1000)
    records = log_records(tmp_path / "run")
    assert records[-1]["event"] == "diverged"
    assert sum(record["times"] for record in records if record["event"] == "non-finite") >= 5
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_each_network_is_trained_alone(trainer):
    discriminator, generator = trainer.optimizers["discriminator"], trainer.optimizers["generator"]
    with_gradients = []
    for optimizer in (discriminator, generator):
        optimizer.adam.register_step_pre_hook(
            lambda *_: with_gradients.append(
                {
                    name: any(p.grad is not None for p in getattr(trainer.gan, name).parameters())
                    for name in trainer.optimizers
                }
            )
        )
    trainer.train_step(real_images(), None)
    only_discriminator = {"discriminator": True, "generator": False}
    assert with_gradients == [only_discriminator] * 2 + [{"discriminator": False, "generator": True}]
    assert not any(parameter.requires_grad for parameter in trainer.gan.parameters())


def test_the_discriminator_step_computes_no_gradient_of_the_generator(trainer):
    trainable = {"discriminator": [], "generator": []}
    original = trainer.optimizer_step

    def optimizer_step(optimizer, losses, *args, **options):
        require = {name: any(p.requires_grad for p in getattr(trainer.gan, name).parameters()) for name in trainable}
        trainable[optimizer.name].append((require["generator"], require["discriminator"]))
        return original(optimizer, losses, *args, **options)

    trainer.optimizer_step = optimizer_step
    with_history = []
    trainer.generator.synthesis.register_forward_hook(
        lambda _module, _args, image: with_history.append(image.requires_grad)
    )
    trainer.train_step(real_images(), None)
    assert trainable == {"discriminator": [(False, True)] * 2, "generator": [(True, False)]}
    assert with_history == [False, True]  # images of the discriminator's step, then of the generator's


def test_the_condition_reaches_the_discriminator_in_every_phase():
    trainer = new_trainer(
        tiny.gan(
            generator=tiny.GENERATOR | {"cond_dim": 10},
            regularizers=[{"kind": "r1", "every": 2}, "bcr", {"kind": "path-length", "every": 2}],
        )
    )
    c, judged, mapped = torch.eye(10)[:8], [], []
    trainer.discriminator.register_forward_pre_hook(lambda _, args: judged.append(args[1]))
    trainer.generator.mapping.register_forward_pre_hook(lambda _, args: mapped.append(args[1]))
    trainer.train_step(real_images(), c)
    assert len(judged) >= 6  # real, fake, their copies, R1, the generator's step
    assert all(torch.equal(each, c) for each in judged)
    assert [len(each) for each in mapped] == [8, 8, 4]
    assert all(torch.equal(each, c[: len(each)]) for each in mapped)
    logits = trainer.discriminator(real_images(), c), trainer.discriminator(real_images(), c.roll(1, 0))
    assert not torch.equal(*logits)


def test_long_gradients_are_clipped_in_the_main_phase_alone(trainer):
    optimizer = trainer.optimizers["discriminator"]
    optimizer.clip_norm = 1e-3
    norms = []
    optimizer.adam.register_step_pre_hook(
        lambda *_: norms.append(nn.utils.get_total_norm(optimizer.gradients().values()).item())
    )
    trainer.train_step(real_images(), None)
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)
    assert norms[1] > 2e-3  # R1
    signals = trainer.read_signals()
    assert signals["gradient/discriminator"] > 1e-2  # before clipping
    assert signals["gradient/generator"] > 0


@pytest.mark.parametrize("same", [False, True])
def test_the_steps_of_both_networks_have_the_same_latents_if_the_document_says_so(same):
    trainer = new_trainer(tiny.gan(same_latents=same))
    latents = []
    trainer.generator.mapping.register_forward_pre_hook(lambda module, inputs: latents.append(inputs[0].clone()))
    for _ in range(2):
        trainer.train_step(real_images(), None)
    assert [torch.equal(latents[step], latents[step + 1]) for step in (0, 2)] == [same] * 2
    assert not torch.equal(latents[0], latents[2])


def test_frozen_steps_of_the_discriminator_keep_their_weights():
    trainer = new_trainer(tiny.gan(freeze_d=2))
    before = {name: value.clone() for name, value in trainer.discriminator.named_parameters()}
    trainer.train_step(real_images(), None)
    same = {name for name, value in trainer.discriminator.named_parameters() if torch.equal(value, before[name])}
    assert same == {name for name in before if name.startswith(("steps.0.", "steps.1."))}
    with pytest.raises(IncompatibleError, match=r"freeze_d +the discriminator has 6 steps, .*; use at most 5"):
        check(parse(tiny.gan(freeze_d=6)))


def test_a_lazy_regularizer_is_weighted_by_its_interval(trainer):
    discriminator = trainer.optimizers["discriminator"]
    (regularizer,) = discriminator.lazy
    parameter = next(iter(discriminator.parameters.values()))
    gradients = []
    discriminator.adam.register_step_pre_hook(lambda *_: gradients.append(parameter.grad.clone()))
    assert [len(discriminator.due_at(step)) for step in range(5)] == [1, 0, 1, 0, 1]
    with discriminator.trainable():
        trainer.backward(PhaseLosses({"some": parameter.sum()}, {}), regularizer.every)
        trainer.optimizer_step(discriminator, {})
    assert torch.equal(gradients[0], torch.full_like(parameter, 2.0))
    factors = []
    trainer.backward = lambda _losses, factor: factors.append(factor)
    trainer.optimizer_step = lambda *_, **__: torch.ones(())
    trainer.train_step(real_images(), None)
    assert factors == [1.0, 2.0, 1.0]


def test_the_augmentation_receives_the_number_of_images_and_the_sign_of_real_logits():
    trainer = new_trainer(tiny.gan(augment="ada", regularizers=[]))
    calls = []
    trainer.gan.augment.at = lambda images: calls.append(images)
    trainer.gan.augment.observe = lambda sign, images: calls.append((sign.item(), images))
    for _ in range(2):
        trainer.train_step(real_images(), None)
    assert calls[::2] == [0, 8]
    assert [images for _, images in calls[1::2]] == [8, 8]
    signs = [sign for sign, _ in calls[1::2]]
    assert trainer.read_signals()["sign/real"] == pytest.approx(sum(signs) / 2)
    assert trainer.read_signals() == {"augment/p": 0.0}


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in-a-blur"])
def test_each_adaptive_augmentation_counts_every_image_once(inside):
    ada = {"kind": "ada", "kimg": 0.1, "interval": 100}
    augment = {"kind": "fading-blur", "then": ada} if inside else ada
    trainer = new_trainer(tiny.gan(augment=augment, regularizers=[{"kind": "bcr", "augment": ada}]))
    for _ in range(3):
        trainer.train_step(real_images(), None)
    outer = trainer.gan.augment.then if inside else trainer.gan.augment
    assert (outer.shown, trainer.gan.regularizers[0].augment.shown) == (24, 24)


def test_balanced_consistency_adapts_its_own_augmentation():
    ada = {"kind": "ada", "kimg": 0.1, "interval": 1, "target": -0.99}  # p rises for any logits
    trainer = new_trainer(tiny.gan(augment=None, regularizers=[{"kind": "bcr", "augment": ada}]))
    for _ in range(3):
        trainer.train_step(real_images(), None)
    assert trainer.gan.regularizers[0].augment.p > 0.1
    assert trainer.losses.read()["bcr"] > 0


@pytest.mark.parametrize("value_range", ["symmetric", "unit", "imagenet"])
@pytest.mark.parametrize("augment", [None, "ada"])
def test_a_projected_discriminator_trains_on_features_of_images_from_minus_one_to_one(value_range, augment):
    discriminator = {"kind": "projected", **ProjectedDiscriminator.examples[0]["spec"]}
    document = tiny.gan(
        discriminator=discriminator,
        generator=tiny.GENERATOR | {"value_range": value_range},
        augment=augment,
        regularizers=[],
    )
    trainer = new_trainer(document)
    received = []
    (backbone,) = (each for each in trainer.discriminator.modules() if isinstance(each, Backbone))
    backbone.register_forward_pre_hook(lambda _, args: received.append(args[0]))
    pixels = digits("train", 16, 3).pixels[:8]
    trainer.train_step(from_bytes(pixels, value_range), None)
    torch.testing.assert_close(received[0], pixels / 127.5 - 1, rtol=0, atol=1e-4)


def test_a_blur_fades_during_training():
    blur = {"kind": "fading-blur", "init_sigma": 2.0, "fade_kimg": 2.0, "then": "diffaugment"}
    trainer = new_trainer(tiny.gan(augment=blur))
    sigmas = []
    for trainer.step in (0, 125, 250):
        trainer.train_step(real_images(), None)
        sigmas.append(trainer.gan.augment.sigma)
    assert sigmas == [2.0, 1.0, 0.0]


def test_an_augmentation_receives_images_from_minus_one_to_one():
    spec = parse(tiny.gan(generator=tiny.GENERATOR | {"value_range": "unit"}))
    augment = trainer_module.augmentation(spec.build())
    received = []
    augment.augment.forward = lambda images: received.append(images) or images
    images = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(augment(images), images)
    torch.testing.assert_close(received[0], images * 2 - 1)
    assert isinstance(trainer_module.augmentation(parse(tiny.gan(augment=None)).build()), nn.Identity)
