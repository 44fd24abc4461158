"""The generator of training steps: style mixing, and a condition that is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assemblies import check, parse
from blocks.families import Batch
from ganblocks.training.generator import TrainingGenerator
from registry import IncompatibleError
from tests import tiny
from tests.training.conftest import clip_condition, new_trainer, real_images


def test_style_mixing_takes_later_styles_from_a_second_latent():
    generator = parse(tiny.gan()).build().generator
    z = torch.randn(4, 8)
    plain = generator.mapping(z, update_w_avg=False)
    before = generator.mapping.w_avg.clone()
    generator.mapping(z)
    moved, generator.mapping.w_avg = generator.mapping.w_avg, before
    places = set()
    for seed in range(30):
        torch.manual_seed(seed)
        generator.mapping.w_avg = before.clone()
        ws = TrainingGenerator(generator, style_mixing=1.0).mapping(z)
        kept = (ws == plain).all(dim=2)
        assert (kept == kept[0]).all()  # the whole batch is mixed from the same style on
        first = int(kept[0].sum())
        assert kept[0, :first].all()
        places.add(first)
        assert torch.equal(generator.mapping.w_avg, moved)  # the second latent does not move the mean style
    assert places == set(range(1, generator.num_ws))


def test_styles_are_mixed_with_the_given_probability_and_only_in_training():
    generator = parse(tiny.gan()).build().generator
    training_generator, z = TrainingGenerator(generator, style_mixing=0.25), torch.randn(2, 8)
    torch.manual_seed(0)
    mixed = [not torch.equal(*ws[0, [0, -1]]) for ws in (training_generator.mapping(z) for _ in range(400))]
    assert np.mean(mixed) == pytest.approx(0.25, abs=0.05)
    trainer = new_trainer(tiny.gan(style_mixing=0.9))
    assert trainer.networks.generator.style_mixing == 0.9
    assert not isinstance(trainer.generator_ema, TrainingGenerator)
    single = tiny.GENERATOR | {
        "synthesis": [{"kind": "constant", "resolution": 4, "dim": 8}, {"kind": "to-rgb", "modulation": "modulate"}]
    }
    with pytest.raises(IncompatibleError, match=r"style_mixing +the generator has 1 style vector"):
        check(parse(tiny.gan(generator=single, discriminator=tiny.DISCRIMINATOR, style_mixing=0.5)))


def test_it_has_the_attributes_of_its_generator():
    generator = parse(tiny.gan()).build().generator
    training_generator, z = TrainingGenerator(generator), torch.randn(2, 8)
    for name in ("z_dim", "num_ws", "resolution", "value_range"):
        assert getattr(training_generator, name) == getattr(generator, name)
    assert torch.equal(training_generator(z), generator(z))
    with pytest.raises(AttributeError):
        training_generator.image_channels  # noqa: B018


@pytest.mark.parametrize("style_mixing", [0.0, 1.0])
def test_a_trained_condition_encodes_tokens_and_receives_gradients(clip_weights, style_mixing):
    condition = clip_condition(clip_weights, embed_weights=True)
    document = tiny.gan(generator=tiny.GENERATOR | condition, trainable={"condition": True})
    generator = parse(document).build().generator
    training_generator = TrainingGenerator(generator, style_mixing=style_mixing, trains_condition=True)
    tokens = generator.condition.read(["one", "two"])
    batch = Batch(z=torch.randn(2, 8), c=generator.condition_of(["one", "two"]), tokens=tokens)
    torch.manual_seed(0)
    image = training_generator(batch.z, batch.generator_c)
    torch.manual_seed(0)
    expected = TrainingGenerator(generator, style_mixing=style_mixing)(batch.z, batch.c)
    torch.testing.assert_close(image, expected)
    image.square().sum().backward()
    assert generator.condition.tower.text_projection.grad.abs().max() > 0
    with pytest.raises(TypeError, match=r"call it with batch.generator_c, not with batch.c"):
        training_generator(batch.z, batch.c)


@pytest.mark.parametrize("trainable", ["text-encoder", {"condition": True}])
def test_path_length_trains_through_a_trained_condition(clip_weights, trainable):
    trainer = new_trainer(
        tiny.gan(
            generator=tiny.GENERATOR | clip_condition(clip_weights, embed_weights=True),
            trainable=trainable,
            regularizers=[{"kind": "path-length", "every": 2, "batch_shrink": 2}],
            generator_optimizer={"lr": 1e-2},
        )
    )
    captions = [f"a picture of {word}" for word in "one two three four five six seven eight".split()]
    c, tokens = trainer.generator.condition_of(captions), trainer.generator.condition.read(captions)
    encoded = []
    trainer.generator.condition.register_forward_pre_hook(lambda _, args: encoded.append(args[0]))
    gradients = []
    projection = trainer.generator.condition.tower.text_projection
    trainer.optimizers["generator"].adam.register_step_pre_hook(lambda *_: gradients.append(projection.grad.clone()))
    trainer.train_step(real_images(), c, tokens)
    assert [len(each) for each in encoded] == [8, 8, 4]  # the discriminator's images, the generator's, half a batch
    assert torch.equal(encoded[2], tokens[:4])
    assert len(gradients) == 2
    assert all(gradient.isfinite().all() and gradient.abs().max() > 0 for gradient in gradients)
    assert trainer.gan.regularizers[0].mean > 0
