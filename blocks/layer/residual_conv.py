"""StyleGAN2's discriminator block: two convolutions beside a shortcut, both halving the map through a low-pass filter.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 4.1 and figure 7; equalised learning rate
throughout.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from blocks.common.equalized import EqualConv2d
from blocks.common.resample import Blur2d, Downsample2d
from blocks.families import Layer, Resolution
from registry import incompatible


class ResidualConv(Layer, kind="residual-conv"):
    """Two 3x3 convolutions, the second of step 2 after a blur, plus a shortcut of step 2, over sqrt(2).

    Both branches give half the side, rounded down.

    Args:
        in_dim: Channels of the features that come in.
        resolution: Height and width of the features, in pixels.
        dim: Channels of the features that go out.
        down: Factor by which the map shrinks.
        architecture: "resnet" has the shortcut, "orig" is the two convolutions alone (StyleGAN1's, and the one to join
            with an intake at each resolution).
        clamp: Largest magnitude of a convolution's output, for half precision; StyleGAN2-ADA takes 256.
        kernel: Kernel of the resampling filter; "auto" takes the best that can serve each call, "tune" the quickest.
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
            raise incompatible("down", f"a map of {resolution[0]}x{resolution[1]} cannot be halved; take down: 1")
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
        y: Tensor = self.conv2(self.blur(self.conv1(x)))
        return y if self.skip is None else (y + self.skip(self.downsample(x))) / math.sqrt(2)
