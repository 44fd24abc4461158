"""Example feed-forward network: two linear layers with a squared ReLU between them.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.shapes import check_nhwc
from blocks.families import FeedForward


class Example(FeedForward, kind="example"):
    """W2 relu(W1 x)^2, applied to each pixel.

    Args:
        dim: Channels C of the map.
        mlp_ratio: Width of the hidden layer, divided by C.
    """

    def __init__(self, dim: int, *, mlp_ratio: PositiveInt = 4) -> None:
        super().__init__()
        self.dim = dim
        self.hidden, self.out = nn.Linear(dim, mlp_ratio * dim), nn.Linear(mlp_ratio * dim, dim)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        y: Tensor = self.out(F.relu(self.hidden(x)).square())
        return y
