"""From RGB: a 1x1 convolution from the colours of an image to features.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, figure 7. It is the first layer of every discriminator
there; the "input skips" architecture has one at each resolution, which adds to the features of the layers before.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from blocks.common.equalized import EqualConv2d
from blocks.common.images.value_range import to_symmetric
from blocks.common.resample import Downsample2d
from blocks.common.shapes import check_nchw
from blocks.families import Stem, channels_last
from registry import incompatible


class FromRGB(Stem, kind="from-rgb"):
    """Features of each pixel's colour; they are added to features `x`, after downsampling the image to their size.

    Args:
        image_channels: Channels of the image.
        in_dim: Channels of the features to add to; None for the first stem.
        dim: Channels C of the result; None for `in_dim`.
        clamp: Largest magnitude of the features of the image, for half precision; StyleGAN2-ADA uses 256.
        value_range: Range of the image. "unit", [0,1], is converted to [-1,1] first, as in the ViTGAN authors' code.
        kernel: Kernel of the resampling filter: "auto" chooses by priority for each call, "tune" by measured speed.

    Raises:
        IncompatibleError: `dim` is missing in the first stem, or is not that of the features.
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
            raise incompatible("dim", "the first stem has no features to take its width from; set dim")
        if dim is not None and in_dim is not None and dim != in_dim:
            raise incompatible("dim", f"{dim} channels cannot be added to {in_dim}; omit dim")
        self.out_dim = dim or in_dim or 0
        self.conv = EqualConv2d(image_channels, self.out_dim, 1, activation="lrelu", clamp=clamp)
        self.downsample = Downsample2d(kernel=kernel)
        self.value_range: str = value_range

    def forward(
        self, x: Float[Tensor, "b c h w"] | None, image: Float[Tensor, "b k i j"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k u v"]]:
        check_nchw(self, image, self.conv.in_dim, name="image")
        if x is not None:
            check_nchw(self, x, self.out_dim, like=image)
            image = self.shrink(image, x.shape[-2], x.shape[-1])
        symmetric = to_symmetric(image, self.value_range)
        features = self.conv(channels_last(symmetric))
        return features if x is None else x + features, image

    def shrink(
        self, image: Float[Tensor, "b k i j"], height: int, width: int, *, times: int = 1
    ) -> Float[Tensor, "b k h w"]:
        """The image halved until it has `times` the size of the features.

        Raises:
            IncompatibleError: Halving never gives that size.
        """
        size = full = tuple(image.shape[-2:])
        while size[0] > height * times and size[1] > width * times:
            image = self.downsample(image)
            size = tuple(image.shape[-2:])
        if size != (height * times, width * times):
            wanted = f"{'twice ' if times == 2 else ''}the {height}x{width} of the features"
            fact = f"halving an image of {full[0]}x{full[1]} never gives {wanted}"
            raise incompatible((), f"{fact}; put the stem after layers that halve the features")
        return image
