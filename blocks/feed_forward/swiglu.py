"""SwiGLU: a feed-forward network whose hidden layer is gated.

Shazeer 2020, https://arxiv.org/abs/2002.05202, section 2.
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from blocks.common.linear import Init, linear
from blocks.common.shapes import check_nhwc
from blocks.families import FeedForward
from registry import incompatible


class SwiGLU(FeedForward, kind="swiglu"):
    """W3(silu(W1 x) * W2 x), applied to each pixel; W1 and W2 are one linear layer. All have biases.

    Args:
        dim: Channels C of the map.
        mlp_ratio: Width of an MLP with as many parameters, divided by C. The hidden layer has two thirds of that width,
            both rounded down.
        init: Initial weights: normal of standard deviation 0.02, truncated, or uniform after Glorot and Bengio.

    Raises:
        IncompatibleError: The hidden layer would have no channels.
    """

    examples: ClassVar = ({"spec": {"mlp_ratio": 2.7, "init": "xavier-uniform"}},)

    def __init__(self, dim: int, *, mlp_ratio: PositiveFloat = 4.0, init: Init = "truncated-normal") -> None:
        super().__init__()
        hidden_dim = int(2 / 3 * int(dim * mlp_ratio))
        if hidden_dim == 0:
            raise incompatible("mlp_ratio", f"{mlp_ratio} x {dim} channels give a hidden layer of width 0; take more")
        self.dim = dim
        self.gated = linear(dim, 2 * hidden_dim, init=init)
        self.out = linear(hidden_dim, dim, init=init)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        gate, value = self.gated(x).chunk(2, dim=-1)
        y: Tensor = self.out(F.silu(gate) * value)
        return y
