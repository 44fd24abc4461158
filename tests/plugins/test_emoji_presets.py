"""The presets for emoji: their networks, their training values, and a step of each."""

from __future__ import annotations

import math

import pytest
import torch

from assemblies import check, read
from assemblies.gan import GAN
from assemblies.multi_stage import MultiStage
from ganblocks.randomness import seed_step
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.trainer import Trainer

# learning rates of G and D, loss, regularizers with their intervals, thousands of images
TRAINING = {
    "emoji-hybrid-32": (0.005, 0.005, "non-saturating", [("r1", 8)], 200.0),
    "emoji-stylegan-t-32": (0.005, 0.005, "non-saturating", [("r1", 8), ("matching-aware", 1)], 200.0),
    "emoji-styleformer-32": (0.003, 0.003, "non-saturating", [("r1", 8)], 140.0),
    "emoji-stylenat-32": (0.002, 0.002, "non-saturating", [("r1", 8)], 160.0),
    "emoji-vitgan-32": (0.003, 0.006, "non-saturating", [("bcr", 1)], 180.0),
}


STRONG = ("emoji-hybrid-32", "emoji-stylegan-t-32")  # wider, for longer training


@pytest.mark.parametrize("name", TRAINING)
def test_presets_make_small_colour_images_with_these_training_values(name):
    spec = read(name, GAN)
    traces = check(spec)
    assert traces["generator"].image == (3, 32, 32)
    strong = name in STRONG
    limit = 5.3e6 if spec.generator.condition is not None else 1.6e6 if strong else 1e6  # the first with its text tower
    assert traces["generator"].parameters < limit
    assert traces["discriminator"].parameters < (3.8e6 if strong else 1e6)
    rates, adam = (spec.generator_optimizer, spec.discriminator_optimizer), spec.generator_optimizer
    regularizers = [(each.kind, each.every) for each in spec.regularizers]
    assert (rates[0].lr, rates[1].lr, spec.loss.kind, regularizers, spec.kimg) == TRAINING[name]
    assert [each.decay_fraction for each in rates] == [0.5] * 2
    assert (adam.betas, spec.batch_size, spec.style_mixing, spec.flip) == ((0.0, 0.99), 64, 0.0, False)
    assert (spec.ema.half_life_kimg, spec.ema.ramp_up) == (20.0 if strong else 5.0, 0.1)
    assert spec.augment.kind == "diffaugment"
    assert set(spec.augment.policy) == ({"translation"} if strong else {"color", "translation"})
    if strong:
        assert (spec.augment.translation_probability, spec.regularizers[0].gamma) == (0.9, 0.1)
    else:
        assert spec.augment.color_probability == 0.5


def test_the_conditional_hybrid_grows_from_16_to_32_px_with_these_training_values():
    spec = read("emoji-hybrid-32-conditional", MultiStage)
    traces = check(spec)
    assert [traces[f"{size}px.generator"].image for size in (16, 32)] == [(3, 16, 16), (3, 32, 32)]
    assert [traces[f"{size}px.generator"].parameters for size in (16, 32)] == [528_981, 603_914]
    assert [stage.init_from_previous for stage in spec.stages] == ["both"] * 2
    low, high = (stage.gan for stage in spec.stages)
    for gan in (low, high):
        assert (gan.generator.condition.kind, gan.generator.condition.num_classes) == ("class-labels", 99)
        assert (gan.loss.kind, gan.batch_size, gan.style_mixing, gan.flip) == ("non-saturating", 32, 0.0, False)
        assert gan.generator_optimizer == gan.discriminator_optimizer
        assert gan.generator_optimizer.betas == (0.0, 0.99)
        assert [(each.kind, each.every) for each in gan.regularizers] == [("r1", 8)]
    rates = [(gan.generator_optimizer.lr, gan.generator_optimizer.decay_fraction) for gan in (low, high)]
    assert rates == [(0.006, 0.0), (0.004, 0.5)]
    assert [gan.regularizers[0].gamma for gan in (low, high)] == [0.01, 0.05]
    assert [(gan.ema.half_life_kimg, gan.ema.ramp_up) for gan in (low, high)] == [(2.0, 0.1), (4.0, 0.1)]
    assert [gan.kimg for gan in (low, high)] == [30.0, 100.0]
    ada = high.augment
    assert (low.augment, ada.kind, ada.policy) == (None, "ada", ("blit", "color"))
    assert (ada.p, ada.target, ada.kimg, ada.limit) == (0.0, 0.6, 60.0, 0.7)
    assert ada.probability == {"xflip": 0, "rotate90": 0, "lumaflip": 0, "hue": 0}


def test_the_text_preset_encodes_captions_without_a_download():
    condition = read("emoji-stylegan-t-32", GAN).generator.condition
    assert (condition.kind, condition.weights, condition.embed_weights) == ("open-clip-text", None, True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["emoji-hybrid-32", "emoji-stylegan-t-32"])
def test_a_training_step_has_finite_losses(name):
    document = read(name, GAN).to_dict() | {"batch_size": 8}
    seed_step(0, -1)
    trainer = Trainer(GAN.Spec.model_validate(document), DistributedContext("cpu", "fp32"))
    c = torch.randn(8, trainer.generator.cond_dim) if trainer.generator.cond_dim else None
    seed_step(0, 0)
    trainer.train_step(torch.rand(8, 3, 32, 32) * 2 - 1, c)
    assert all(math.isfinite(value) for value in trainer.losses.read().values())
