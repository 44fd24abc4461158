"""GAT's presets have the published sizes, without parameters that have no effect, and the authors' training values.

The small ones learn digits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assemblies import GAN, check, parse, read
from blocks.families import value_at
from registry import catalogue
from tests.assemblies.models.training_values import differences, values_of
from tests.budget import only_in_full
from tests.digits import share_of_the_untrained_score

SIZES = {  # generator, discriminator, learning rate
    "gat-s": (29_354_816, 39_212_928, 4e-4),
    "gat-b": (116_741_696, 104_676_864, 2e-4),
    "gat-l": (408_731_168, 323_035_872, 1.5e-4),
    "gat-xl": (602_231_552, 467_678_784, 1.333333e-4),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_preset_is_a_complete_document_with_the_published_number_of_parameters(name: str) -> None:
    spec = parse(catalogue.presets()[name]())
    assert parse(spec.to_dict()) == spec
    traces = check(spec)
    assert traces["generator"].image == (4, 32, 32)
    assert spec.generator.decoder.to_dict() == {
        "kind": "autoencoder-kl",
        "weights": "stabilityai/sd-vae-ft-ema",
        "image_channels": 3,
        "latent_channels": 4,
        "downsampling": 8,
        "scaling_factor": 0.18215,
        "shift_factor": 0.0,
        "arguments": {},
    }
    assert (traces["generator"].parameters, traces["discriminator"].parameters) == SIZES[name][:2]


@pytest.mark.parametrize("name", SIZES)
def test_training_values_are_those_of_the_reference(name: str) -> None:
    spec: Any = read(name, GAN)
    expected = {
        "loss": "relativistic",
        "value_range": "symmetric",
        "batch_size": 512,
        "kimg": 76_870.02,
        "style_mixing": 0.0,
        "same_latents": True,
        "flip": False,
        "resize_filter": "lanczos",
        "augment": {
            "kind": "diffaugment",
            "policy": ["color", "translation", "cutout", "flip"],
            "color_probability": 0.5,
            "color_gate": "all",
            "color_reference": 4,
            "translation_probability": 1.0,
            "translation_ratio": 0.125,
            "cutout_probability": 1.0,
            "cutout_ratio": 0.5,
            "flip_probability": 0.4,
        },
        "ema": (354.7138, None, 0.0),  # a decay of 0.999 per step
        "regularizers": ["approximate-r1", "approximate-r2", "token-alignment"],
        **{f"approximate-{kind}.gamma": 0.1 for kind in ("r1", "r2")},
        **{f"approximate-{kind}.sigma": 0.01 for kind in ("r1", "r2")},
        **{f"approximate-{kind}.every": 1 for kind in ("r1", "r2")},
        "token-alignment.every": 1,
        "token-alignment.proj_coeff": 1.0,
        "token-alignment.teacher_policy": ["translation", "flip"],
        "token-alignment.teacher_shift": "published",
        "token-alignment.teacher": {
            "kind": "timm",
            "network": "vit_base_patch14_dinov2.lvd142m",
            "weights": "pretrained",
            "depths": [12],
            "class_token": "first",
            "image_size": [224, 224],
            "norm": True,
            "arguments": {},
            "embed_weights": False,
        },
        **{f"{side}.lr": SIZES[name][2] for side in "GD"},
        **{f"{side}.betas": (0.0, 0.99) for side in "GD"},
        **{f"{side}.eps": 1e-8 for side in "GD"},
        **{f"{side}.schedule": (0.0, 0.0) for side in "GD"},
        **{f"{side}.clip_norm": 1.0 for side in "GD"},
    }
    assert differences(values_of(spec), expected) == {}
    assert spec.generator.mapping.w_avg_beta**2 == pytest.approx(0.995)  # both steps of a training step track means


@pytest.mark.parametrize(
    ("name", "sizes", "rate", "kimg"),
    [("mini-gat", (152_456, 103_273), 4e-3, 32.0), ("mini-gat-conditional", (152_900, 107_720), 3e-3, 24.0)],
)
def test_a_small_preset_has_two_levels_and_exact_penalties(
    name: str, sizes: tuple[int, int], rate: float, kimg: float
) -> None:
    spec: Any = read(name, GAN)
    assert parse(spec.to_dict()) == spec
    traces = check(spec)
    assert traces["generator"].image == (1, 16, 16)
    assert (traces["generator"].parameters, traces["discriminator"].parameters) == sizes
    expected = {
        "loss": "relativistic",
        "value_range": "symmetric",
        "batch_size": 16,
        "kimg": kimg,
        "style_mixing": 0.0,
        "flip": False,
        "resize_filter": "lanczos",
        "augment": None,
        "ema": (1.0, 0.05, 0.0),
        "regularizers": ["r1", "r2"],
        **{f"{kind}.at": "image" for kind in ("r1", "r2")},
        **{f"{kind}.every": 1 for kind in ("r1", "r2")},
        **{f"{side}.lr": rate for side in "GD"},
        **{f"{side}.betas": (0.0, 0.99) for side in "GD"},
        **{f"{side}.eps": 1e-8 for side in "GD"},
        **{f"{side}.schedule": (0.0, 0.0) for side in "GD"},
        **{f"{side}.clip_norm": None for side in "GD"},
    }
    scheduled = {"r1.gamma", "r2.gamma"}
    assert differences({key: value for key, value in values_of(spec).items() if key not in scheduled}, expected) == {}
    ends = (0, kimg * 1000)
    for adam in (spec.generator_optimizer, spec.discriminator_optimizer):
        assert [value_at(adam.lr, images) for images in ends] == pytest.approx([rate, 3e-4])
    for regularizer in spec.regularizers:
        assert [value_at(regularizer.gamma, images) for images in ends] == pytest.approx([1.0, 0.3])


def test_the_small_presets_differ_in_the_classes_and_the_mapping_network() -> None:
    spec, conditional = read("mini-gat", GAN).generator, read("mini-gat-conditional", GAN).generator
    assert (spec.mapping.embed_dim, spec.condition) == (None, None)
    assert conditional.mapping.embed_dim == 6
    assert spec.mapping.lr_multiplier == conditional.mapping.lr_multiplier == 0.01
    assert conditional.condition.num_classes == 10
    assert spec.synthesis == conditional.synthesis


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mini-gat", "mini-gat-conditional"])
def test_a_small_preset_learns_digits(name: str, tmp_path: Path) -> None:
    spec = parse(read(name, GAN).to_dict() | {"kimg": 3.2})  # about 30 seconds on one thread
    assert share_of_the_untrained_score(spec, tmp_path, 0) < 0.4  # measured: 10 and 9 %


@only_in_full("four minutes")
@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["mini-gat", "mini-gat-conditional"])
def test_the_digit_score_is_at_most_2_percent_of_the_untrained_one(name: str, seed: int, tmp_path: Path) -> None:
    assert share_of_the_untrained_score(read(name, GAN), tmp_path, seed) <= 0.02
