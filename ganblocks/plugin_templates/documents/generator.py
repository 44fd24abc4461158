"""Example generator: a small transformer.

Name the paper here, with its address; name the source of each value in a comment.
"""

from __future__ import annotations

from typing import Any


def example() -> dict[str, Any]:
    """A generator of images of 16x16 pixels."""
    return {
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
    }
