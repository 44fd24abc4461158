"""From RGB: a 1x1 convolution turns the colours of an image into features.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, figure 7: the first layer of every discriminator there,
and in the "input skips" architecture one at each resolution, whose features are added to those of the layers above.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from blocks.common.equalized import EqualConv2d
from blocks.common.resample import Downsample2d
from blocks.families import Stem
from registry import incompatible


class FromRGB(Stem, kind="from-rgb"):
    """Features of each pixel's colour; added to the features that are there, the image being shrunk to their size.

    Args:
        image_channels: Channels of the image.
        in_dim: Channels of the features to add to; None for the first intake.
        dim: Channels C of the features; None for as many as those it adds to.
        clamp: Largest magnitude of what comes in, for half precision; StyleGAN2-ADA takes 256.
        value_range: What the image's numbers mean; those in [0,1], "unit", are brought to [-1,1] first, as ViTGAN's
            authors do.
        kernel: Kernel of the resampling filter; "auto" takes the best that can serve each call, "tune" the quickest.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"dim": 12}, "context": {"in_dim": None, "dim": None}},
        {"spec": {"clamp": 0.5, "value_range": "unit"}, "context": {"in_dim": 16}},
    )

    def __init__(
        self,
        image_channels: int,
        in_dim: int | None = None,
        *,
        dim: PositiveInt | None = None,
        clamp: PositiveFloat | None = None,
        value_range: Literal["symmetric", "unit"] = "symmetric",
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        if dim is None and in_dim is None:
            raise incompatible("dim", "the first intake has no features to take its width from; say how many channels")
        if dim is not None and in_dim is not None and dim != in_dim:
            raise incompatible("dim", f"{dim} channels cannot be added to {in_dim}; leave dim away to follow them")
        self.conv = EqualConv2d(image_channels, dim or in_dim or 0, 1, activation="lrelu", clamp=clamp)
        self.downsample = Downsample2d(kernel=kernel)
        self.unit = value_range == "unit"

    def forward(
        self, x: Float[Tensor, "b c h w"] | None, image: Float[Tensor, "b k i j"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k u v"]]:
        if x is not None:
            image = self.shrink(image, x.shape[-2], x.shape[-1])
        symmetric = 2 * image - 1 if self.unit else image
        features = self.conv(symmetric.contiguous(memory_format=torch.channels_last))
        return features if x is None else x + features, image

    def shrink(
        self, image: Float[Tensor, "b k i j"], height: int, width: int, *, times: int = 1
    ) -> Float[Tensor, "b k h w"]:
        """The image halved until it has the size of the features, or so many times that size.

        Raises:
            IncompatibleError: Halving never gives that size.
        """
        size = given = tuple(image.shape[-2:])
        while size[0] > height * times and size[1] > width * times:
            image = self.downsample(image)
            size = tuple(image.shape[-2:])
        if size != (height * times, width * times):
            wanted = f"{'twice ' if times == 2 else ''}the {height}x{width} of the features"
            fact = f"halving an image of {given[0]}x{given[1]} never gives {wanted}"
            raise incompatible((), f"{fact}; put the intake where the features were halved as well")
        return image
