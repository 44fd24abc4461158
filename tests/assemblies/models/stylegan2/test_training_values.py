"""The training values of StyleGAN2's preset: StyleGAN2-ADA's configuration paper256, mirrored images, no ADA."""

from __future__ import annotations

from tests.assemblies.models.training_values import differences, training_values

VALUES = {
    "loss": "non-saturating",
    "value_range": "symmetric",
    "batch_size": 64,
    "kimg": 25_000.0,
    "style_mixing": 0.9,
    "flip": True,
    "resize_filter": "lanczos",
    "augment": None,
    "ema": (20.0, None, 0.0),
    "regularizers": ["r1", "path-length"],
    "r1.gamma": 1.0,
    "r1.every": 16,
    "r1.at": "image",
    "path-length.weight": 2.0,
    "path-length.decay": 0.01,
    "path-length.every": 4,
    "path-length.batch_shrink": 2,
    "G.lr": 0.0020,
    "G.betas": (0.0, 0.991992),
    "G.eps": 1e-8,
    "G.schedule": (0.0, 0.0),
    "G.clip_norm": None,
    "D.lr": 0.00235294,
    "D.betas": (0.0, 0.990585),
    "D.eps": 1e-8,
    "D.schedule": (0.0, 0.0),
    "D.clip_norm": None,
}


def test_training_values_are_those_of_the_reference() -> None:
    assert differences(training_values("stylegan2-ffhq-256"), VALUES) == {}
