"""From wavelets: a 1x1 convolution from the Haar bands of an image to features.

StyleSwin, Zhang et al. 2021, https://arxiv.org/abs/2112.10762, section 3.5, against artifacts of attention in windows,
visible in the high bands; after SWAGAN, https://arxiv.org/abs/2102.06108. StyleNAT's discriminator is the same.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from blocks.common.images.wavelets import haar
from blocks.common.shapes import check_nchw
from blocks.families import Resolution, channels_last
from blocks.stem.from_rgb import FromRGB
from registry import incompatible


class FromWavelets(FromRGB, kind="from-wavelets"):
    """Features of each 2x2 pixels, at half the image's resolution; they are added to features `x`.

    The image is first downsampled to twice the size of the features. (The papers keep the bands and transform them back
    to downsample, which is equivalent.)

    Args:
        image_channels: Channels of the image.
        resolution: Height and width of the image, in pixels, both even.
        in_dim: Channels of the features to add to; None for the first stem.
        dim: Channels C of the result; None for `in_dim`.
        clamp: Largest magnitude of the features of the image, for half precision.
        kernel: Kernel of the resampling filter: "auto" chooses by priority for each call, "tune" by measured speed.

    Raises:
        IncompatibleError: As in `FromRGB`, or the image has an odd side.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"dim": 12}, "context": {"in_dim": None, "dim": None, "resolution": (8, 6)}},
        {"spec": {"clamp": 0.5}, "context": {"in_dim": 16}},
    )

    def __init__(
        self,
        image_channels: int,
        resolution: Resolution,
        in_dim: int | None = None,
        *,
        dim: PositiveInt | None = None,
        clamp: PositiveFloat | None = None,
        kernel: str = "auto",
    ) -> None:
        height, width = resolution
        if height % 2 or width % 2:
            raise incompatible((), f"{height}x{width} pixels do not split into 2x2; take an even size, or from-rgb")
        super().__init__(4 * image_channels, in_dim, dim=dim, clamp=clamp, kernel=kernel)

    def forward(
        self, x: Float[Tensor, "b c h w"] | None, image: Float[Tensor, "b k i j"]
    ) -> tuple[Float[Tensor, "b c u v"], Float[Tensor, "b k p q"]]:
        check_nchw(self, image, self.conv.in_dim // 4, name="image")
        if x is not None:
            check_nchw(self, x, self.out_dim, like=image)
            image = self.shrink(image, x.shape[-2], x.shape[-1], times=2)
        features = self.conv(channels_last(haar(image)))
        return features if x is None else x + features, image
