"""The training values of StyleNAT's presets, after Adam's correction for lazy R1.

Sources: the authors' runs/ffhq_256.yaml and training code, and StyleSwin's published recipes where StyleNAT has none.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.assemblies.models.training_values import differences, training_values

COMMON = {
    "loss": "non-saturating",
    "value_range": "imagenet",
    "style_mixing": 0.0,
    "resize_filter": "bilinear",
    "augment": None,
    "regularizers": ["r1"],
    "r1.every": 16,
    "r1.at": "image",
    "G.lr": 2e-4 / 4,  # ttur
    "G.betas": (0.0, 0.99),
    "G.eps": 1e-8,
    "G.clip_norm": None,
    "D.lr": 1.88235294e-4,  # 2e-4 x 16/17
    "D.betas": (0.0, 0.99058546),  # 0.99 ** (16/17)
    "D.eps": 1e-8,
    "D.clip_norm": 5.0,
}
CONSISTENCY = {
    "regularizers": ["r1", "bcr"],
    "bcr.lambda_real": 10.0,
    "bcr.lambda_fake": 10.0,
    "bcr.every": 1,
    "bcr.view": "clean",
    "bcr.augment_range": "generator",
    "bcr.augment": {
        "kind": "diffaugment",
        "policy": ["flip", "translation", "color", "cutout"],
        "flip_probability": 0.5,
        "translation_probability": 1.0,
        "translation_ratio": 1 / 8,
        "color_probability": 1.0,
        "color_gate": "each",
        "color_reference": None,
        "cutout_probability": 1.0,
        "cutout_ratio": 0.5,
    },
}


def run(batch_size: int, steps: int, decay_steps: int, gamma: float, flip: bool) -> dict[str, Any]:
    """A run of so many steps; the average decays by 0.5 ** (32/10000) per step, which is a half-life of 312.5 steps."""
    kimg = batch_size / 1000
    schedule = (0.0, decay_steps * kimg)
    return {
        "batch_size": batch_size,
        "kimg": steps * kimg,
        "G.schedule": schedule,
        "D.schedule": schedule,
        "ema": (312.5 * kimg, None, 0.0),
        "r1.gamma": gamma,
        "flip": flip,
    }


VALUES: dict[str, dict[str, Any]] = {
    "stylenat-ffhq-256": COMMON | CONSISTENCY | run(64, 1_000_000, 225_000, 10.0, flip=True),
    "stylenat-ffhq-1024": COMMON | run(16, 800_000, 200_000, 10.0, flip=False),
    "stylenat-church-256": COMMON | run(32, 1_500_000, 200_000, 5.0, flip=True),
    "styleswin-ffhq-256": COMMON | CONSISTENCY | run(32, 1_000_000, 225_000, 10.0, flip=True) | {"D.clip_norm": None},
}


@pytest.mark.parametrize("name", VALUES)
def test_training_values_are_those_of_the_reference(name: str) -> None:
    assert differences(training_values(name), VALUES[name]) == {}
