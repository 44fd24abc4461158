"""The feed-forward network of a transformer: an MLP with one hidden layer, applied to each pixel.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from blocks.common.linear import linear
from blocks.common.shapes import check_nhwc
from blocks.families import FeedForward
from registry import incompatible

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "silu": F.silu, "relu": F.relu}


class MLP(FeedForward, kind="mlp"):
    """Linear, activation, linear, applied to each pixel independently.

    Args:
        dim: Channels C of the map.
        mlp_ratio: Width of the hidden layer divided by C; the width is rounded down.
        activation: Activation of the hidden layer: "gelu" (exact), "silu" (the ViTGAN authors' code) or "relu".
        bias: Whether the linear layers have biases.
        equalized: Whether the linear layers use equalised learning rate, as in the ViTGAN authors' code.

    Raises:
        IncompatibleError: The hidden layer would have no channels.
    """

    examples: ClassVar = (
        {"spec": {"mlp_ratio": 1.3, "activation": "silu"}},
        {"spec": {"activation": "relu", "bias": False, "equalized": True}},
    )

    def __init__(
        self,
        dim: int,
        *,
        mlp_ratio: PositiveFloat = 4.0,
        activation: Literal["gelu", "silu", "relu"] = "gelu",
        bias: bool = True,
        equalized: bool = False,
    ) -> None:
        super().__init__()
        hidden_dim = int(dim * mlp_ratio)
        if hidden_dim == 0:
            least = math.ceil(1e4 / dim) / 1e4
            raise incompatible(
                "mlp_ratio", f"{mlp_ratio} x {dim} channels give a hidden layer of width 0; take at least {least:g}"
            )
        self.dim, self.activation = dim, ACTIVATIONS[activation]
        self.fc1 = linear(dim, hidden_dim, bias=bias, equalized=equalized)
        self.fc2 = linear(hidden_dim, dim, bias=bias, equalized=equalized)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        y: Tensor = self.fc2(self.activation(self.fc1(x)))
        return y
