"""No feed-forward network, where a transformer block adds what its norm makes nevertheless.

So it is in the generator of the best-known re-implementation of ViTGAN, Lee et al. 2021,
https://arxiv.org/abs/2107.04589, which computes the networks of its blocks and throws their results away.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from blocks.families import FeedForward


class Identity(FeedForward, kind="identity"):
    """Each pixel as it is."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        return x
