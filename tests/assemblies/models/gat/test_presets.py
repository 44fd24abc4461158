"""GAT's presets have the published sizes, without parameters that have no effect and the projector of the alignment."""

from __future__ import annotations

from typing import Any

import pytest

from assemblies import GAN, check, parse, read
from registry import catalogue
from tests.assemblies.models.training_values import differences, values_of

SIZES = {  # generator, discriminator, learning rate
    "gat-s": (29_354_816, 32_654_464, 4e-4),
    "gat-b": (116_741_696, 97_331_968, 2e-4),
    "gat-l": (408_731_168, 315_166_688, 1.5e-4),
    "gat-xl": (602_231_552, 459_547_456, 1.333333e-4),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_preset_is_a_complete_document_with_the_published_number_of_parameters(name: str) -> None:
    spec = parse(catalogue.presets()[name]())
    assert parse(spec.to_dict()) == spec
    traces = check(spec)
    assert traces["generator"].image == (4, 32, 32)
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
        "regularizers": ["approximate-r1", "approximate-r2"],
        **{f"approximate-{kind}.gamma": 0.1 for kind in ("r1", "r2")},
        **{f"approximate-{kind}.sigma": 0.01 for kind in ("r1", "r2")},
        **{f"approximate-{kind}.every": 1 for kind in ("r1", "r2")},
        **{f"{side}.lr": SIZES[name][2] for side in "GD"},
        **{f"{side}.betas": (0.0, 0.99) for side in "GD"},
        **{f"{side}.eps": 1e-8 for side in "GD"},
        **{f"{side}.schedule": (0.0, 0.0) for side in "GD"},
        **{f"{side}.clip_norm": 1.0 for side in "GD"},
    }
    assert differences(values_of(spec), expected) == {}
