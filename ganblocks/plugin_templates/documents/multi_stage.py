"""Example training in two stages: images of 8x8 pixels, then of 16x16 by appended steps.

Name the paper here, with its address; name the source of each value in a comment.
"""

from __future__ import annotations

from typing import Any

BLOCK: dict[str, Any] = {"kind": "transformer", "norm": "sln", "attention": {"kind": "dense", "num_heads": 4}}
LOW: list[dict[str, Any]] = [{"kind": "constant", "dim": 32, "resolution": [8, 8]}, BLOCK, {"kind": "to-rgb"}]
HIGH = [*LOW, {"kind": "upsample-linear", "dim": 16}, BLOCK, {"kind": "to-rgb"}]


def example() -> dict[str, Any]:
    """Two stages, for images of 8x8 and of 16x16 pixels; the second starts from the generator of the first."""
    return {
        "kind": "stages",
        "stages": [
            {"name": "low", "gan": gan(LOW, kimg=200)},
            {"name": "high", "gan": gan(HIGH, kimg=400), "init_from_previous": "generator"},
        ],
    }


def gan(synthesis: list[dict[str, Any]], kimg: float) -> dict[str, Any]:
    """The document of one stage."""
    return {
        "kind": "gan",
        "generator": {
            "kind": "layered",
            "z_dim": 32,
            "mapping": {"kind": "mapping", "num_layers": 2},
            "synthesis": synthesis,
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
        "kimg": kimg,
    }
