"""StyleGAN2's discriminator block: two convolutions and a shortcut, both with low-pass filtered downsampling.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 4.1 and figure 7; all convolutions have
equalised learning rate.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from blocks.common.equalized import EqualConv2d
from blocks.common.resample import Blur2d, Downsample2d
from blocks.common.shapes import check_nchw
from blocks.families import Layer, Resolution
from registry import incompatible


class ResidualConv(Layer, kind="residual-conv"):
    """(conv(blur(conv(x)), stride 2) + shortcut(x)) / sqrt(2); both branches halve the sides, rounded down.

    Args:
        in_dim: Channels of the input.
        resolution: Height and width of the input, in pixels.
        dim: Channels of the output.
        down: Downsampling factor.
        architecture: "resnet" has the shortcut, "orig" is the two convolutions without it (StyleGAN1; for use with a
            stem at each resolution).
        clamp: Largest magnitude of a convolution's output, for half precision; null for no limit, 256 in StyleGAN2-ADA.
        kernel: Kernel of the upfirdn2d op; "auto" takes the best one that supports each call, "tune" the fastest.

    Raises:
        IncompatibleError: The map is too small to be halved.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"dim": 12}},
        {"spec": {"dim": 12, "down": 1}},
        {"spec": {"dim": 12, "architecture": "orig", "clamp": 1.0}},
    )

    def __init__(
        self,
        in_dim: int,
        resolution: Resolution,
        *,
        dim: PositiveInt,
        down: Literal[1, 2] = 2,
        architecture: Literal["resnet", "orig"] = "resnet",
        clamp: PositiveFloat | None = None,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        if min(resolution) < down:
            raise incompatible("down", f"{resolution[0]}x{resolution[1]} pixels cannot be halved; take down: 1")
        halves = down == 2
        self.conv1 = EqualConv2d(in_dim, in_dim, 3, activation="lrelu", clamp=clamp)
        self.blur = Blur2d(padding=(2, 2), kernel=kernel) if halves else nn.Identity()
        self.conv2 = EqualConv2d(
            in_dim, dim, 3, stride=down, padding=0 if halves else 1, activation="lrelu", clamp=clamp
        )
        self.downsample = Downsample2d(kernel=kernel) if halves else nn.Identity()
        self.skip = EqualConv2d(in_dim, dim, 1, bias=False) if architecture == "resnet" else None

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b d i j"]:
        check_nchw(self, x, self.conv1.in_dim)
        y: Tensor = self.conv2(self.blur(self.conv1(x)))
        return y if self.skip is None else (y + self.skip(self.downsample(x))) / math.sqrt(2)
