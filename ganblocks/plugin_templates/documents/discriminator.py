"""Example discriminator: convolutions, then one linear layer.

Name the paper here, with its address; name the source of each value in a comment.
"""

from __future__ import annotations

from typing import Any


def example() -> dict[str, Any]:
    """A discriminator of images of any even size."""
    return {
        "kind": "layered",
        "steps": [
            {"kind": "from-rgb", "dim": 16},
            {"kind": "residual-conv", "dim": 32},
            {"kind": "minibatch-std"},
            {"kind": "linear", "hidden_dim": 64},
        ],
    }
