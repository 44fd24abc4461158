"""A linear map of each pixel's features to its colour, without bias, as R3GAN's generator ends.

R3GAN, Huang et al. 2024, https://arxiv.org/abs/2501.05441, section 3.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from blocks.common.plain_conv import PlainConv2d
from blocks.common.resample import SkipSum
from blocks.common.shapes import check_nchw
from blocks.families import ImageHead


class LinearToRGB(ImageHead, kind="linear-to-rgb"):
    """A 1x1 convolution without bias, added to the image so far; weights N(0, 1 / C) at init.

    Args:
        dim: Channels C of the features.
        image_channels: Channels of the image.
        kernel: Kernel of the filter that resamples the image so far: "auto" chooses by priority for each call, "tune"
            by measured speed.
    """

    def __init__(self, dim: int, image_channels: int = 3, *, kernel: str = "auto") -> None:
        super().__init__()
        self.conv = PlainConv2d(dim, image_channels)
        self.skip = SkipSum(kernel=kernel)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        ws: Float[Tensor, "b n s"],
        image: Float[Tensor, "b k i j"] | None = None,
    ) -> Float[Tensor, "b k h w"]:
        check_nchw(self, x, self.conv.in_dim)
        summed: Tensor = self.skip(self.conv(x), image)
        return summed
