"""A linear map of each pixel's channels, with which R3GAN changes the width between resolutions.

R3GAN, Huang et al. 2024, https://arxiv.org/abs/2501.05441, section 3.
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor

from blocks.common.plain_conv import PlainConv2d
from blocks.common.shapes import check_nchw
from blocks.families import Layer


class Pointwise(Layer, kind="pointwise"):
    """A 1x1 convolution without bias and activation; weights N(0, 1 / C) at init.

    Args:
        in_dim: Channels C of the input.
        dim: Channels of the output.
    """

    examples: ClassVar = ({"spec": {"dim": 12}},)

    def __init__(self, in_dim: int, *, dim: PositiveInt) -> None:
        super().__init__()
        self.conv = PlainConv2d(in_dim, dim)

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b d h w"]:
        check_nchw(self, x, self.conv.in_dim)
        y: Tensor = self.conv(x)
        return y
