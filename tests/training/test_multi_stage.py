"""Trainings go on with a part of a model, and one after the other, as a document says."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from assemblies import check, parse, save_model
from assemblies.trainable import PHASES, Trainable
from ganblocks import train
from ganblocks.cli.show import describe_spec
from ganblocks.errors import RunError
from ganblocks.randomness import seed_step
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.trainer import Trainer
from ganblocks.training.warm_start import WarmStart
from plugins import clip_towers
from plugins.open_clip import TINY
from registry import IncompatibleError, SpecValidationError
from tests import tiny

LOW = tiny.GENERATOR | {"synthesis": tiny.GENERATOR["synthesis"][:-3]}  # up to its readout at 8 pixels
STEPS = {"kimg": 0.016, "batch_size": 8}
RECIPE = {
    "kind": "stages",
    "stages": [
        {"name": "low", "gan": tiny.gan(generator=LOW, **STEPS)},
        {
            "name": "high",
            "gan": tiny.gan(trainable={"mapping": False, "above": 8}, **STEPS),
            "init_from_previous": "generator",
        },
    ],
}
QUIET = {"tick": 0.008, "snapshot": 0, "quiet": True, "workers": 0}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("towers") / "clip.safetensors"
    save_file(clip_towers.open_clip().model.CLIP(**TINY).state_dict(), path)
    return path


def text(weights, **options):
    return {"condition": {"kind": "open-clip-text", "model": TINY, "weights": str(weights), **options}}


def trainable(generator):
    return {name for name, parameter in generator.named_parameters() if parameter.requires_grad}


def test_a_phase_is_a_name_for_what_learns(weights):
    document = tiny.gan(generator=tiny.GENERATOR | text(weights, embed_weights=True), trainable="text-encoder")
    spec = parse(document)
    assert spec.trainable == Trainable(mapping=False, synthesis=False, condition=True)
    assert parse(spec.to_dict()) == spec
    assert {name.partition(".")[0] for name in trainable(spec.build().generator)} == {"condition"}
    assert parse(tiny.gan(trainable="all")).trainable == Trainable()
    with pytest.raises(SpecValidationError, match=f"unknown phase 'freeze'; valid: {', '.join(PHASES)}"):
        parse(tiny.gan(trainable="freeze"))


def test_steps_of_low_resolution_stay_as_they_are_but_for_readouts():
    generator = parse(tiny.gan(trainable={"mapping": False, "above": 8})).build().generator
    steps = {int(name.split(".")[1]) for name in trainable(generator)}
    # 0 source and 1 transformer at 4 pixels, 2 upsampling to 8, 3 readout, 4 transformer at 8, 5 upsampling to 16
    assert steps == {3, 5, 6}
    assert not {name for name in trainable(generator) if name.startswith("mapping")}


def test_a_tower_that_is_borrowed_cannot_learn(weights):
    document = tiny.gan(generator=tiny.GENERATOR | text(weights), trainable="text-encoder")
    expected = "the generator has no trainable condition; give it one with embed_weights: true"
    with pytest.raises(IncompatibleError, match=re.escape(expected)):
        check(parse(document))
    with pytest.raises(IncompatibleError, match="no part of the generator is trained"):
        check(parse(tiny.gan(trainable={"mapping": False, "synthesis": False})))


def test_the_text_encoder_learns_while_others_are_told_what_it_said_at_first(weights, tmp_path):
    guidance = {"kind": "clip-guidance", "model": TINY, "weights": str(weights), "weight": 5.0}
    document = tiny.gan(
        generator=tiny.GENERATOR | text(weights, embed_weights=True),
        trainable="text-encoder",
        regularizers=[guidance],
        generator_optimizer={"lr": 1e-2},
    )
    whole = train(document, "digits", tmp_path / "whole", kimg=0.032, **QUIET)
    train(document, "digits", tmp_path / "parts", kimg=0.016, **QUIET)
    train(None, None, tmp_path / "parts", kimg=0.032, resume=True, **QUIET)
    expected, found = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "parts"))
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    begun = load_file(weights)
    tower = whole.generator.condition.tower.state_dict()
    assert not torch.equal(tower["text_projection"], begun["text_projection"])
    model = load_file(tmp_path / "whole" / "model.safetensors")
    assert torch.equal(model["condition.tower.text_projection"], tower["text_projection"])


def test_a_blur_fades_as_training_goes_on():
    blur = {"kind": "fading-blur", "init_sigma": 2.0, "fade_kimg": 2.0, "then": "diffaugment"}
    seed_step(0, -1)
    trainer = Trainer(parse(tiny.gan(augment=blur)), DistributedContext("cpu"))
    sigmas = []
    for trainer.step in (0, 125, 250):
        trainer.train_step(torch.rand(8, 3, 16, 16), None)
        sigmas.append(trainer.gan.augment.sigma)
    assert sigmas == [2.0, 1.0, 0.0]


def test_a_recipe_says_what_does_not_fit(tmp_path):
    found = check(parse(RECIPE))
    assert [(name, trace.image) for name, trace in found.items() if "generator" in name] == [
        ("low.generator", (3, 8, 8)),
        ("high.generator", (3, 16, 16)),
    ]
    first, second = RECIPE["stages"]
    with pytest.raises(
        IncompatibleError,
        match=r"stages.1.init_from_previous   the generator of the previous stage has .* this stage's generator lacks",
    ):
        check(parse(RECIPE | {"stages": [second, first | {"init_from_previous": "generator"}]}))
    with pytest.raises(
        IncompatibleError, match=r"which this stage's discriminator lacks; or initialise the generator alone"
    ):
        check(parse(RECIPE | {"stages": [first, second | {"init_from_previous": "both"}]}))
    with pytest.raises(IncompatibleError, match=r"stages.1.name\s+low names two stages"):
        check(parse(RECIPE | {"stages": [first, second | {"name": "low"}]}))
    broken = tiny.gan(generator=LOW | {"synthesis": LOW["synthesis"][:1] + LOW["synthesis"][-1:]}, freeze_d=99)
    with pytest.raises(IncompatibleError, match=r"stages.0.gan.freeze_d"):
        check(parse(RECIPE | {"stages": [{"name": "only", "gan": broken}]}))


def test_a_recipe_trains_stage_after_stage(tmp_path):
    run = train(RECIPE, "digits", tmp_path / "run", **QUIET)
    assert run.folder == tmp_path / "run" / "2-high"
    assert run.generator.resolution == (16, 16)
    low, high = (load_file(tmp_path / "run" / name / "model.safetensors") for name in ("1-low", "2-high"))
    kept = {name for name in low if torch.equal(low[name], high[name])}
    changed = set(low) - kept  # the readout learns, and the mean style goes on being tracked
    assert changed == {"synthesis.3.weight", "synthesis.3.bias", "mapping.w_avg"}
    assert set(low) < set(high)
    assert describe_spec(tmp_path / "run" / "multi_stage.yaml")["totals"]["high.generator"]["parameters"] > 0
    with pytest.raises(RunError, match="holds a recipe's runs already; go on with them by --resume"):
        train(RECIPE, "digits", tmp_path / "run", **QUIET)
    with pytest.raises(RunError, match="was begun with another recipe"):
        train(RECIPE | {"stages": RECIPE["stages"][:1]}, "digits", tmp_path / "run", resume=True, **QUIET)
    with pytest.raises(RunError, match="each stage of a recipe has its own kimg"):
        train(RECIPE, "digits", tmp_path / "other", kimg=1, **QUIET)


def test_a_recipe_goes_on_where_it_stopped(tmp_path):
    train(RECIPE, "digits", tmp_path / "whole", **QUIET)
    first = RECIPE["stages"][0]["gan"]
    place = tmp_path / "parts"
    train(first, "digits", place / "1-low", kimg=0.008, **QUIET)  # as if stopped in the first stage
    train(RECIPE, "digits", place, resume=True, **QUIET)
    again = train(None, None, place, resume=True, **QUIET)
    expected, found = (load_file(tmp_path / name / "2-high" / "checkpoint.safetensors") for name in ("whole", "parts"))
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    assert again.folder == place / "2-high"


def test_a_training_may_begin_with_another_ones_networks(tmp_path):
    document = tiny.gan(**STEPS)
    before = tmp_path / "first"
    train(document, "digits", before, **QUIET)
    state = load_file(before / "checkpoint.safetensors")
    for discriminator in (before, None):
        seed_step(5, -1)
        trainer = Trainer(parse(document), DistributedContext("cpu"))
        WarmStart(before, discriminator).apply(trainer)
        for network in (trainer.generator, trainer.generator_ema):
            assert all(torch.equal(value, state[f"average.{name}"]) for name, value in network.state_dict().items())
        judging = trainer.discriminator.state_dict()
        same = all(torch.equal(value, state[f"gan.discriminator.{name}"]) for name, value in judging.items())
        assert same == (discriminator is not None)


def test_a_training_may_begin_with_model_files(tmp_path):
    seed_step(1, -1)
    gan = parse(tiny.gan()).build()
    for name in ("generator", "discriminator"):
        save_model(tmp_path / f"{name}.safetensors", getattr(gan, name))
    seed_step(5, -1)
    trainer = Trainer(parse(tiny.gan()), DistributedContext("cpu"))
    WarmStart(tmp_path / "generator.safetensors", tmp_path / "discriminator.safetensors").apply(trainer)
    for name in ("generator", "discriminator"):
        found, expected = (getattr(each, name).state_dict() for each in (trainer, gan))
        assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_what_cannot_be_begun_with_is_said(tmp_path):
    gan = parse(tiny.gan()).build()
    generator, discriminator = (tmp_path / f"{name}.safetensors" for name in ("generator", "discriminator"))
    save_model(generator, gan.generator)
    save_model(discriminator, gan.discriminator)
    trainer = Trainer(parse(tiny.gan()), DistributedContext("cpu"))
    for warm_start, said in (
        (WarmStart(generator=tmp_path / "nowhere"), "has no generator to begin with; give a run folder or a model"),
        (WarmStart(discriminator=tmp_path), "has no finished training to begin with"),
        (WarmStart(generator=discriminator), "holds a discriminator; a generator's file or a run folder goes here"),
        (WarmStart(discriminator=generator), "holds a generator; a discriminator's file or a run folder goes here"),
    ):
        with pytest.raises(RunError, match=said):
            warm_start.apply(trainer)
    smaller = tiny.DISCRIMINATOR | {"steps": tiny.DISCRIMINATOR["steps"][::5]}
    other = Trainer(parse(tiny.gan(discriminator=smaller)), DistributedContext("cpu"))
    with pytest.raises(
        IncompatibleError, match=r"whose discriminator goes before, .*\n.* has tensors that this network lacks: "
    ):
        WarmStart(discriminator=discriminator).apply(other)
    run = dict(QUIET, kimg=0.008)
    train(tiny.gan(), "digits", tmp_path / "run", init_generator=generator, init_discriminator=discriminator, **run)
    with pytest.raises(RunError, match="has begun; leave --init-generator and --init-discriminator away"):
        train(None, None, tmp_path / "run", resume=True, init_generator=generator, **run)
