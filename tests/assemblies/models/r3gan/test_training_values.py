"""The training values of R3GAN's presets: train.py of the authors' code, lengths from a reading of the paper; ours."""

from __future__ import annotations

from typing import Any

import pytest

from assemblies import GAN, read
from blocks.families import value_at
from tests.assemblies.models.training_values import differences, values_of

MILLION = 1_000_000
# batch, burn-in in millions, gamma, p of the augmentation, half-life of the average in kimg, length in kimg
PRESETS = {
    "r3gan-cifar10-32": (512, 20, 0.05, 0.55, 5000, 250_000),
    "r3gan-ffhq-64": (256, 20, 2.0, 0.3, 500, 100_000),
    "r3gan-ffhq-256": (256, 20, 150.0, 0.3, 500, 200_000),
    "r3gan-imagenet-32": (4096, 200, 0.5, 0.5, 50_000, 1_000_000),
    "r3gan-imagenet-64": (4096, 200, 1.0, 0.4, 50_000, 1_000_000),
}
FACTORS = {"brightness": 0.5, "contrast": 0.5, "lumaflip": 0.5, "hue": 0.5, "saturation": 0.5}


@pytest.mark.parametrize("name", PRESETS)
def test_training_values_are_those_of_the_reference(name: str) -> None:
    spec: Any = read(name, GAN)
    batch, _, gamma, p, half_life, kimg = PRESETS[name]
    values = values_of(spec)
    expected = {
        "loss": "relativistic",
        "value_range": "symmetric",
        "batch_size": batch,
        "kimg": kimg,
        "style_mixing": 0.0,
        "flip": True,
        "resize_filter": "lanczos",
        "regularizers": ["r1", "r2"],
        "r1.every": 1,
        "r1.at": "image",
        "r2.at": "image",
        "r2.every": 1,
        **{f"{side}.lr": 2e-4 for side in "GD"},
        **{f"{side}.betas": (0.0, 0.9) for side in "GD"},
        **{f"{side}.eps": 1e-8 for side in "GD"},
        **{f"{side}.schedule": (0.0, 0.0) for side in "GD"},
        **{f"{side}.clip_norm": None for side in "GD"},
    }
    scheduled = {"ema", "augment", "r1.gamma", "r2.gamma"}  # below
    assert differences({name: value for name, value in values.items() if name not in scheduled}, expected) == {}
    assert (spec.ema.ramp_up, spec.ema.start_kimg) == (None, 0.0)
    assert spec.augment.policy == ("blit", "geometry", "color", "cutout")
    assert (spec.augment.target, spec.augment.probability, spec.augment.magnitude) == (None, FACTORS, {})
    end = 10**9
    gammas = [value_at(regularizer.gamma, end) for regularizer in spec.regularizers]
    assert gammas == pytest.approx([gamma / 10] * 2)
    assert (value_at(spec.augment.p, end), value_at(spec.ema.half_life_kimg, end)) == (p, half_life)


@pytest.mark.parametrize("name", PRESETS)
def test_schedules_are_half_a_cosine_over_the_burn_in(name: str) -> None:
    spec: Any = read(name, GAN)
    adam, burn_in, gamma = spec.generator_optimizer, PRESETS[name][1] * MILLION, PRESETS[name][2]
    assert adam == spec.discriminator_optimizer
    first, second = spec.regularizers
    assert (first.kind, second.kind, first.gamma) == ("r1", "r2", second.gamma)
    quarters = [part * burn_in / 4 for part in range(5)]
    rates = [2e-4, 1.7803e-4, 1.25e-4, 7.1967e-5, 5e-5]
    assert [value_at(adam.lr, images) for images in quarters] == pytest.approx(rates, rel=1e-4)
    betas = [0.9, 0.91318, 0.945, 0.97682, 0.99]
    assert [value_at(adam.betas[1], images) for images in quarters] == pytest.approx(betas, rel=1e-5)
    gammas = [gamma * part for part in (1, 0.8682, 0.55, 0.2318, 0.1)]
    assert [value_at(first.gamma, images) for images in quarters] == pytest.approx(gammas, rel=1e-3)
    assert (value_at(spec.augment.p, 0), value_at(spec.ema.half_life_kimg, 0)) == (0, 0)


@pytest.mark.parametrize(
    ("name", "gamma", "last_rate", "batch_size", "kimg"),
    [("mini-r3gan", (2.0, 0.5), 5e-5, 16, 22.0), ("mini-r3gan-conditional", (6.0, 2.0), 2e-4, 32, 20.0)],
)
def test_training_values_of_the_small_presets(
    name: str, gamma: tuple[float, float], last_rate: float, batch_size: int, kimg: float
) -> None:
    spec: Any = read(name, GAN)
    expected = {
        "loss": "relativistic",
        "value_range": "symmetric",
        **({"output": "hardtanh"} if name == "mini-r3gan" else {}),
        "batch_size": batch_size,
        "kimg": kimg,
        "style_mixing": 0.0,
        "flip": False,
        "resize_filter": "lanczos",
        "ema": (1.0, 0.05, 0.0),
        "augment": None,
        "regularizers": ["r1", "r2"],
        **{f"{kind}.at": "image" for kind in ("r1", "r2")},
        **{f"{kind}.every": 1 for kind in ("r1", "r2")},
        **{f"{side}.lr": 1e-3 for side in "GD"},
        **{f"{side}.betas": (0.0, 0.99) for side in "GD"},
        **{f"{side}.eps": 1e-8 for side in "GD"},
        **{f"{side}.schedule": (0.0, 0.0) for side in "GD"},
        **{f"{side}.clip_norm": None for side in "GD"},
    }
    scheduled = {"r1.gamma", "r2.gamma"}  # below
    assert differences({key: value for key, value in values_of(spec).items() if key not in scheduled}, expected) == {}
    halves = [part * kimg * 1000 / 2 for part in range(3)]
    for adam in (spec.generator_optimizer, spec.discriminator_optimizer):
        assert [value_at(adam.lr, images) for images in halves] == pytest.approx(
            [1e-3, (1e-3 + last_rate) / 2, last_rate]
        )
    for regularizer in spec.regularizers:
        values = [value_at(regularizer.gamma, images) for images in halves]
        assert values == pytest.approx([gamma[0], sum(gamma) / 2, gamma[1]])
