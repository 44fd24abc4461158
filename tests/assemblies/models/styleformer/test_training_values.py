"""The training values of Styleformer's presets, after Adam's corrections for lazy regularizers.

Sources: the repository's configurations `cifar` and `auto` and its trainer, which is StyleGAN2-ADA's.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.assemblies.models.training_values import differences, training_values

ADA = {
    "kind": "ada",
    "policy": ["blit", "geometry", "color"],  # bgc
    "p": 0.0,
    "target": 0.6,
    "kimg": 500.0,
    "interval": 4,
    "limit": 1.0,  # ours; the code has none
    "probability": {},
    "magnitude": {},
    "bands": [1.0, 1.0, 1.0, 1.0],
}
LINFORMER_ADA = ADA | {"limit": 0.7}
COMMON = {
    "loss": "non-saturating",
    "value_range": "symmetric",
    "flip": False,
    "resize_filter": "lanczos",
    "augment": ADA,
    "r1.every": 16,
    "r1.at": "image",
    "G.lr": 0.0020,  # 0.0025 x 4/5
    "G.betas": (0.0, 0.991992),
    "G.eps": 1e-8,
    "G.schedule": (0.0, 0.0),
    "G.clip_norm": None,
    "D.lr": 0.00235294,  # 0.0025 x 16/17
    "D.betas": (0.0, 0.990585),
    "D.eps": 1e-8,
    "D.schedule": (0.0, 0.0),
    "D.clip_norm": None,
}


def auto(resolution: int, batch_size: int, used: int, reserved: int) -> dict[str, Any]:
    """Configuration `auto`; the code counts `reserved` style vectors, of which the generator uses `used`."""
    return {
        "batch_size": batch_size,
        "kimg": 25_000.0,
        "ema": (batch_size * 10 / 32, 0.05, 0.0),
        "regularizers": ["r1", "path-length"],
        "r1.gamma": 0.0002 * resolution**2 / batch_size,
        "path-length.weight": 2 * used / reserved,
        "path-length.decay": 0.01,
        "path-length.every": 4,
        "path-length.batch_shrink": 2,
        "style_mixing": 0.9 * (used - 1) / (reserved - 1),
    }


VALUES: dict[str, dict[str, Any]] = {
    "styleformer-cifar10-32": COMMON
    | {
        "batch_size": 32,
        "kimg": 100_000.0,
        "ema": (500.0, 0.05, 0.0),
        "regularizers": ["r1"],  # the generator's Adam is corrected for a path length penalty all the same
        "r1.gamma": 0.01,
        "style_mixing": 0.0,
    },
    "styleformer-stl10-48": COMMON | auto(48, 64, 8, 10),
    "styleformer-celeba-64": COMMON | auto(64, 64, 6, 9) | {"augment": LINFORMER_ADA},
    "styleformer-church-128": COMMON | auto(128, 64, 7, 11) | {"augment": LINFORMER_ADA},
    "styleformer-c-256": COMMON | auto(256, 64, 12, 12),
    "styleformer-c-1024": COMMON | auto(1024, 16, 16, 16) | {"G.lr": 0.0016, "D.lr": 0.002 * 16 / 17},
}


@pytest.mark.parametrize("name", VALUES)
def test_training_values_are_those_of_the_reference(name: str) -> None:
    assert differences(training_values(name), VALUES[name]) == {}
