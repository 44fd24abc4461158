"""Example stem: a convolution of the image.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.shapes import check_nchw
from blocks.families import OddInt, Stem
from registry import incompatible


class Example(Stem, kind="example"):
    """A convolution with zero padding, as the first step of a discriminator.

    Args:
        image_channels: Channels K of the image.
        in_dim: Channels of the features so far; None, since there are none.
        dim: Channels C of the features.
        kernel_size: Height and width of the convolution's window, in pixels.

    Raises:
        IncompatibleError: There are features already.
    """

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"dim": 8}, "context": {"in_dim": None}},)

    def __init__(
        self, image_channels: int, in_dim: int | None = None, *, dim: PositiveInt = 64, kernel_size: OddInt = 3
    ) -> None:
        super().__init__()
        if in_dim is not None:
            raise incompatible((), f"must be the first stem, but there are features of {in_dim} channels already")
        self.image_channels = image_channels
        self.conv = nn.Conv2d(image_channels, dim, kernel_size, padding=kernel_size // 2)

    def forward(
        self, x: Float[Tensor, "b c h w"] | None, image: Float[Tensor, "b k i j"]
    ) -> tuple[Float[Tensor, "b d i j"], Float[Tensor, "b k i j"]]:
        check_nchw(self, image, self.image_channels, name="image")
        return self.conv(image.contiguous(memory_format=torch.channels_last)), image
