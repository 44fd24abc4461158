"""A convolution with equalised learning rate.

Progressive growing, Karras et al. 2018, https://arxiv.org/abs/1710.10196; the last convolution before StyleGAN2's head.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from blocks.common.equalized import Activation, EqualConv2d
from blocks.common.shapes import check_nchw
from blocks.families import Layer, OddInt


class Conv(Layer, kind="conv"):
    """A convolution that keeps height and width, followed by an activation.

    Args:
        in_dim: Channels of the input.
        dim: Channels of the output.
        kernel_size: Side of the kernel, in pixels.
        activation: "lrelu" is leaky ReLU of slope 0.2 times sqrt(2).
        clamp: Largest magnitude of the output, for half precision; null for no limit, 256 in StyleGAN2-ADA.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"dim": 12}},
        {"spec": {"dim": 8, "kernel_size": 1, "activation": "linear", "clamp": 1.0}},
    )

    def __init__(
        self,
        in_dim: int,
        *,
        dim: PositiveInt,
        kernel_size: OddInt = 3,
        activation: Activation = "lrelu",
        clamp: PositiveFloat | None = None,
    ) -> None:
        super().__init__()
        self.conv = EqualConv2d(in_dim, dim, kernel_size, activation=activation, clamp=clamp)

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b d h w"]:
        check_nchw(self, x, self.conv.in_dim)
        y: Tensor = self.conv(x)
        return y
