"""GAT's readout: tokens, normalised and scaled by the style, become patches that are added to the image so far.

GAT, https://arxiv.org/abs/2509.24935; a generator has several, each after a part of its layers.
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.images.patches import patches_to_image
from blocks.common.linear import linear
from blocks.common.resample import SkipSum
from blocks.common.shapes import check_nchw, check_styles
from blocks.families import ImageHead, to_nhwc

EPS = 1e-6


class ModulatedPatches(ImageHead, kind="modulated-patches"):
    """RMSNorm without gain, times 1 + A silu(w), then a linear map from each token to its patch of the image.

    Args:
        dim: Features of a token.
        style_dim: Features S of the style; the block of the next step uses the same style vector.
        image_channels: Channels of the image.
        patch_size: Side of a patch, in pixels: the factor between the map of tokens and the image.
        modulation_gain: Factor of the uniform initial weights of A.
        patch_gain: Factor of those of the linear map, and so of the untrained image.
        kernel: Kernel of the filter that resamples the image so far: "auto" chooses by priority for each call, "tune"
            by measured speed.
    """

    examples: ClassVar = (
        {"spec": {"patch_size": 2}},
        {"spec": {"patch_size": 1, "modulation_gain": 1.0, "patch_gain": 0.1}},
    )
    num_styles, shares_next_style = 1, True

    def __init__(
        self,
        dim: int,
        style_dim: int,
        image_channels: int = 3,
        *,
        patch_size: PositiveInt = 2,
        modulation_gain: PositiveFloat = 0.1,
        patch_gain: PositiveFloat = 1.0,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        self.dim, self.style_dim, self.patch_size = dim, style_dim, patch_size
        self.modulation: nn.Module = linear(style_dim, dim, init="xavier-uniform", gain=modulation_gain)
        self.patch: nn.Module = linear(dim, image_channels * patch_size**2, init="xavier-uniform", gain=patch_gain)
        self.skip = SkipSum(kernel=kernel)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        ws: Float[Tensor, "b n s"],
        image: Float[Tensor, "b k i j"] | None = None,
    ) -> Float[Tensor, "b k u v"]:
        check_nchw(self, x, self.dim)
        w = check_styles(self, ws, 1, self.style_dim, x)[:, 0]
        scale = self.modulation(F.silu(w))[:, None, None]
        patches = self.patch(F.rms_norm(to_nhwc(x), (self.dim,), eps=EPS) * (1 + scale))
        summed: Tensor = self.skip(patches_to_image(patches, self.patch_size), image)
        return summed
