"""Example projector: a linear map of each pixel of a discriminator's features.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.shapes import check_nchw
from blocks.families import Projector, to_nhwc


class Example(Projector, kind="example"):
    """A linear map of each pixel to the features of the network that it is aligned with.

    Args:
        in_dim: Channels C of the discriminator's features.
        dim: Features F of the other network.
    """

    def __init__(self, in_dim: int, *, dim: PositiveInt = 64) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.linear = nn.Linear(in_dim, dim)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n f"]:
        check_nchw(self, x, self.in_dim)
        tokens: Tensor = self.linear(to_nhwc(x).flatten(1, 2))
        return tokens
