"""Example image head: an RGB patch of each pixel of the features.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.images.patches import patches_to_image
from blocks.common.resample import SkipSum
from blocks.common.shapes import check_nchw
from blocks.families import ImageHead, to_nhwc


class Example(ImageHead, kind="example"):
    """A linear map from each pixel's features to a patch, added to the image so far.

    Args:
        dim: Channels C of the features.
        image_channels: Channels K of the image.
        patch_size: Height and width of a patch, in pixels of the image.
    """

    def __init__(self, dim: int, image_channels: int = 3, *, patch_size: PositiveInt = 2) -> None:
        super().__init__()
        self.dim, self.patch_size = dim, patch_size
        self.patches = nn.Conv2d(dim, image_channels * patch_size**2, 1)
        self.skip = SkipSum()

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        ws: Float[Tensor, "b n s"],
        image: Float[Tensor, "b k i j"] | None = None,
    ) -> Float[Tensor, "b k u v"]:
        check_nchw(self, x, self.dim)
        patches = to_nhwc(self.patches(x))
        summed: Tensor = self.skip(patches_to_image(patches, self.patch_size), image)
        return summed
