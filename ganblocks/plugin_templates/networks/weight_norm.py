"""Example weight norm: each output's weights have unit length.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.families import WeightNorm


class Example(WeightNorm, kind="example"):
    """weight / |weight| for each output.

    Args:
        weight: Initial value of the weight.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()

    def forward(self, weight: Float[Tensor, "o ..."]) -> Float[Tensor, "o ..."]:
        lengths = torch.linalg.vector_norm(weight.flatten(1), dim=1)
        normalized: Tensor = weight / lengths.view(-1, *[1] * (weight.ndim - 1))
        return normalized
