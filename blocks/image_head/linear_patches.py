"""The plainest way from tokens to pixels.

The decoder of a vision transformer, as in Masked Autoencoders, He et al. 2021, https://arxiv.org/abs/2111.06377; the
baseline of ViTGAN's implicit networks, https://arxiv.org/abs/2107.04589, section 3.3.
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.images.patches import patches_to_image
from blocks.common.resample import SkipSum
from blocks.common.shapes import check_nchw
from blocks.families import ImageHead, to_nhwc


class LinearPatches(ImageHead, kind="linear-patches"):
    """A linear map from each token to its patch of the image, added to the image so far.

    Args:
        dim: Features of a token.
        image_channels: Channels of the image.
        patch_size: Side of a patch, in pixels: the factor between the map of tokens and the image.
        kernel: Kernel of the filter that resamples the image so far: "auto" chooses by priority for each call, "tune"
            by measured speed.
    """

    examples: ClassVar = ({"spec": {"patch_size": 2}}, {"spec": {"patch_size": 3}, "context": {"image_channels": 1}})

    def __init__(self, dim: int, image_channels: int = 3, *, patch_size: PositiveInt = 4, kernel: str = "auto") -> None:
        super().__init__()
        self.patch_size = patch_size
        self.patch = nn.Linear(dim, image_channels * patch_size**2)
        self.skip = SkipSum(kernel=kernel)
        nn.init.trunc_normal_(self.patch.weight, std=0.02)
        nn.init.zeros_(self.patch.bias)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        ws: Float[Tensor, "b n s"],
        image: Float[Tensor, "b k i j"] | None = None,
    ) -> Float[Tensor, "b k u v"]:
        check_nchw(self, x, self.patch.in_features)
        patches = self.patch(to_nhwc(x))
        summed: Tensor = self.skip(patches_to_image(patches, self.patch_size), image)
        return summed
