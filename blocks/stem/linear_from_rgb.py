"""A linear map of each pixel's colour to features, without bias, as R3GAN's discriminator begins.

R3GAN, Huang et al. 2024, https://arxiv.org/abs/2501.05441, section 3.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor

from blocks.common.plain_conv import PlainConv2d
from blocks.common.shapes import check_nchw
from blocks.families import Stem, channels_last
from registry import incompatible


class LinearFromRGB(Stem, kind="linear-from-rgb"):
    """A 1x1 convolution of the image without bias and activation; weights N(0, 1 / image channels) at init.

    Args:
        image_channels: Channels of the image.
        in_dim: Channels of the features so far; must be None, for the first step of a discriminator.
        dim: Channels of the result.

    Raises:
        IncompatibleError: There are features already.
    """

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"dim": 12}, "context": {"in_dim": None, "dim": None}},)

    def __init__(self, image_channels: int, in_dim: int | None = None, *, dim: PositiveInt) -> None:
        super().__init__()
        if in_dim is not None:
            fact = f"linear-from-rgb must be the first stem, but there are features of {in_dim} channels already"
            raise incompatible((), f"{fact}; use from-rgb")
        self.conv = PlainConv2d(image_channels, dim)

    def forward(
        self, x: Float[Tensor, "b c h w"] | None, image: Float[Tensor, "b k i j"]
    ) -> tuple[Float[Tensor, "b d i j"], Float[Tensor, "b k i j"]]:
        check_nchw(self, image, self.conv.in_dim, name="image")
        return self.conv(channels_last(image)), image
