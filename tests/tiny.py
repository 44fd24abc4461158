"""Small documents for tests: 16 pixels, a handful of channels."""

from __future__ import annotations

from typing import Any

GENERATOR: dict[str, Any] = {
    "kind": "layered",
    "z_dim": 8,
    "mapping": {"kind": "mapping", "num_layers": 2},
    "synthesis": [
        {"kind": "constant", "resolution": 4, "dim": 16},
        {"kind": "transformer", "norm": "sln", "attention": {"kind": "dense", "num_heads": 2}},
        {"kind": "upsample-linear", "dim": 8},
        {"kind": "to-rgb"},
        {
            "kind": "transformer",
            "norm": "adain",
            "attention": {"kind": "hydra-na", "num_heads": 2, "kernel_sizes": [3, 3], "dilations": [1, 2]},
        },
        {"kind": "upsample-linear", "dim": 8},
        {"kind": "to-rgb"},
    ],
}
DISCRIMINATOR: dict[str, Any] = {
    "kind": "layered",
    "steps": [
        {"kind": "from-rgb", "dim": 8},
        {"kind": "residual-conv", "dim": 12},
        {"kind": "transformer", "attention": {"kind": "dense", "num_heads": 2}},
        {"kind": "residual-conv", "dim": 16},
        {"kind": "minibatch-std"},
        {"kind": "linear"},
    ],
}


def gan(**changes: Any) -> dict[str, Any]:
    """A GAN of 16x16 pixels with a lazy R1 and an augmentation."""
    document = {
        "kind": "gan",
        "generator": GENERATOR,
        "discriminator": DISCRIMINATOR,
        "regularizers": [{"kind": "r1", "gamma": 1.0, "every": 2}],
        "augment": "diffaugment",
        "batch_size": 8,
        "kimg": 0.048,
    }
    return document | changes
