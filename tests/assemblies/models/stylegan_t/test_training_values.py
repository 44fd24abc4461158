"""The training values of StyleGAN-T's presets: those of the published code's command line."""

from __future__ import annotations

from typing import Any

import pytest

from assemblies import read
from assemblies.multi_stage import MultiStage
from tests.assemblies.models.training_values import differences, training_values, values_of

DIFF_AUGMENT = {
    "kind": "diffaugment",
    "policy": ["color", "translation", "cutout"],
    "color_probability": 1.0,
    "color_gate": "each",
    "color_reference": None,
    "translation_probability": 1.0,
    "translation_ratio": 1 / 8,
    "cutout_probability": 1.0,
    "cutout_ratio": 0.2,
}
COMMON: dict[str, Any] = {
    "loss": "hinge",
    "value_range": "symmetric",
    "batch_size": 128,
    "kimg": 25_000.0,
    "style_mixing": 0.0,
    "flip": False,
    "resize_filter": "lanczos",
    "augment": {"kind": "fading-blur", "init_sigma": 32.0, "fade_kimg": 1000.0, "then": DIFF_AUGMENT},
    "ema": (128 * 10 / 32, 0.05, 0.0),
    "regularizers": ["clip-guidance"],
    "clip-guidance.model": "ViT-L-14",
    "clip-guidance.weights": "openai",
    "clip-guidance.weight": 0.2 * 8,  # the code divides the adversarial loss by the 8 images of a GPU
    "clip-guidance.crop": 64,
    "clip-guidance.precision": "float32",
    "clip-guidance.every": 1,
    "G.lr": 0.002,
    "G.betas": (0.0, 0.99),
    "G.eps": 1e-8,
    "G.schedule": (0.0, 0.0),
    "G.clip_norm": None,
    "D.lr": 0.002,
    "D.betas": (0.0, 0.99),
    "D.eps": 1e-8,
    "D.schedule": (0.0, 0.0),
    "D.clip_norm": None,
}
RESUMED = COMMON | {"augment": DIFF_AUGMENT, "ema": (40.0, None, 0.0)}
TEXT_ENCODER = RESUMED | {"G.lr": 3e-6, "clip-guidance.weight": 8.0}
SIZES = [f"stylegan-t-{size}{resolution}" for size in ("", "lite-") for resolution in (64, 256, 512)]


@pytest.mark.parametrize("name", SIZES)
def test_training_values_are_those_of_the_reference(name: str) -> None:
    assert differences(training_values(name), COMMON) == {}


@pytest.mark.parametrize("name", ["stylegan-t-lite-multi-stage-256", "stylegan-t-multi-stage-512"])
def test_training_values_of_the_stages_are_those_of_the_reference(name: str) -> None:
    first, grown, text_encoder = (values_of(stage.gan) for stage in read(name, MultiStage).stages)
    assert differences(first, COMMON) == {}
    assert differences(grown, RESUMED) == {}
    assert differences(text_encoder, TEXT_ENCODER) == {}
