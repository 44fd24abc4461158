"""Example GAN: a small transformer against a small convolutional discriminator.

Name the paper here, with its address; name the source of each value in a comment.
"""

from __future__ import annotations

from typing import Any


def example() -> dict[str, Any]:
    """A GAN for images of 16x16 pixels."""
    return {
        "kind": "gan",
        "generator": {
            "kind": "layered",
            "z_dim": 32,
            "mapping": {"kind": "mapping", "num_layers": 2},
            "synthesis": [
                {"kind": "constant", "dim": 32, "resolution": [8, 8]},
                {"kind": "transformer", "norm": "sln", "attention": {"kind": "dense", "num_heads": 4}},
                {"kind": "upsample-linear", "dim": 16},
                {"kind": "transformer", "norm": "sln", "attention": {"kind": "dense", "num_heads": 4}},
                {"kind": "to-rgb"},
            ],
        },
        "discriminator": {
            "kind": "layered",
            "steps": [
                {"kind": "from-rgb", "dim": 16},
                {"kind": "residual-conv", "dim": 32},
                {"kind": "minibatch-std"},
                {"kind": "linear", "hidden_dim": 64},
            ],
        },
        "loss": "non-saturating",
        "regularizers": [{"kind": "r1", "gamma": 0.5, "every": 16}],
        "batch_size": 32,
        "kimg": 500,
    }
