"""The training values of ViTGAN's presets.

Sources: the authors' configs/gan/stylegan2/c10_style64.gin and README; the paper's values are partly from memory, as
`presets.py` marks them.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.assemblies.models.training_values import differences, training_values

COMMON = {
    "loss": "non-saturating",
    "style_mixing": 0.0,
    "resize_filter": "lanczos",
    "bcr.every": 1,
    "bcr.augment_range": "symmetric",
    "G.betas": (0.0, 0.99),
    "G.eps": 1e-8,
    "G.clip_norm": None,
    "D.betas": (0.0, 0.99),
    "D.eps": 1e-8,
    "D.clip_norm": None,
}
AUTHORS_AUGMENT = {
    "kind": "diffaugment",
    "policy": ["color", "translation", "flip", "cutout"],
    "color_probability": 0.8,
    "color_gate": "each",
    "color_reference": None,
    "translation_probability": 0.8,
    "translation_ratio": 1 / 8,
    "flip_probability": 0.45,
    "cutout_probability": 0.3,
    "cutout_ratio": 0.5,
}
AUTHORS = COMMON | {
    "value_range": "unit",
    "batch_size": 64,
    "kimg": 51_200.0,  # 800,000 steps
    "flip": True,  # cifar10_hflip
    "augment": AUTHORS_AUGMENT,
    "ema": (1000.0, None, 1000.0),
    "regularizers": ["r1", "bcr"],
    "r1.gamma": 0.1,
    "r1.every": 1,
    "r1.at": "image",
    "bcr.lambda_real": 1.0,
    "bcr.lambda_fake": 1.0,
    "bcr.view": "two-views",
    "bcr.augment": AUTHORS_AUGMENT,
    "G.lr": 0.001,
    "G.schedule": (192.0, 0.0),  # warm-up over 3,000 steps
    "D.lr": 0.001,
    "D.schedule": (192.0, 0.0),
}
PAPER_AUGMENT = {
    "kind": "diffaugment",
    "policy": ["translation", "color", "cutout", "resize"],
    "translation_probability": 0.8,
    "translation_ratio": 1 / 8,
    "color_probability": 0.8,
    "color_gate": "each",
    "color_reference": None,
    "cutout_probability": 0.8,
    "cutout_ratio": 0.2,
    "resize_probability": 0.8,
    "resize_ratio": 0.2,
}
PAPER = COMMON | {
    "value_range": "symmetric",
    "batch_size": 128,
    "kimg": 50_000.0,
    "flip": False,
    "augment": PAPER_AUGMENT,
    "ema": (10.0, None, 0.0),
    "regularizers": ["bcr"],
    "bcr.lambda_real": 10.0,
    "bcr.lambda_fake": 10.0,
    "bcr.view": "clean",
    "bcr.augment": PAPER_AUGMENT,
    "G.lr": 0.002,
    "G.schedule": (0.0, 0.0),
    "D.lr": 0.002,
    "D.schedule": (0.0, 0.0),
}
VALUES: dict[str, dict[str, Any]] = {
    "vitgan-official-cifar10-32": AUTHORS,
    "vitgan-official-inr-cifar10-32": AUTHORS,
    "vitgan-cifar10-32": PAPER,
    "vitgan-celeba-64": PAPER,
    "vitgan-bedroom-64": PAPER,
    "vitgan-bedroom-128": PAPER,
}


@pytest.mark.parametrize("name", VALUES)
def test_training_values_are_those_of_the_reference(name: str) -> None:
    assert differences(training_values(name), VALUES[name]) == {}
