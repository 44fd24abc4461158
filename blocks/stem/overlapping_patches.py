"""Overlapping patches: tokens of a vision transformer from patches that share their borders.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, section 3.2: overlap adds locality and reduces
overfitting of the discriminator.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.shapes import check_nchw, check_resolution
from blocks.families import Resolution, Stem, channels_last
from registry import incompatible


class OverlappingPatches(Stem, kind="overlapping-patches"):
    """One token for each square patch of the image and a margin around it, plus a learned position embedding.

    The best-known re-implementation uses no padding (`padding` "none"), which gives fewer tokens, and the sine of a
    learned angle (`position` "sine").

    Args:
        image_channels: Channels of the image.
        resolution: Height and width of the image, in pixels.
        in_dim: Channels of features to add to; must be None.
        dim: Features D of a token.
        patch_size: Side P of a patch and stride between patches, in pixels.
        overlap: Margin o around each patch, in pixels: the window of a token has side P + 2 o.
        window_size: Side of the window, in place of P + 2 o; of an odd margin the larger part is right and below.
        padding: "zeros" pads the image with zeros and has a token for each patch; "none" has a token only where the
            whole window lies in the image.
        position: Position embedding: "learned" values, N(0, 0.02^2) at init, or the "sine" of learned angles, N(0,1) at
            init.
        pos_init: Standard deviation of these values or angles at init, in place of 0.02 and 1. If positions are small
            compared with patches, a LayerNorm that follows removes the contrast of a patch.
        class_token: Whether a learned token comes first. The result is then the one-row map [B,D,1,1+N] of all tokens,
            otherwise the map [B,D,H/P,W/P].

    Raises:
        IncompatibleError: The image does not divide into patches or is smaller than the window, or there are
            features already.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {
            "spec": {"dim": 12, "patch_size": 2, "overlap": 1},
            "context": {"in_dim": None, "dim": None, "resolution": (8, 6)},
        },
        {
            "spec": {"dim": 12, "class_token": True, "pos_init": 0.5},
            "context": {"in_dim": None, "dim": None, "resolution": (8, 8)},
        },
        {
            "spec": {"dim": 12, "patch_size": 3, "window_size": 4, "padding": "none", "position": "sine"},
            "context": {"in_dim": None, "dim": None, "resolution": (8, 9)},
        },
    )

    def __init__(
        self,
        image_channels: int,
        resolution: Resolution,
        in_dim: int | None = None,
        *,
        dim: PositiveInt = 384,
        patch_size: PositiveInt = 4,
        overlap: Annotated[int, Field(ge=0)] = 2,
        window_size: PositiveInt | None = None,
        padding: Literal["zeros", "none"] = "zeros",
        position: Literal["learned", "sine"] = "learned",
        pos_init: PositiveFloat | None = None,
        class_token: bool = False,
    ) -> None:
        super().__init__()
        self.resolution = height, width = resolution
        if in_dim is not None:
            raise incompatible(
                (), f"overlapping-patches must be the first stem, but there are features of {in_dim} channels already"
            )
        side = patch_size + 2 * overlap if window_size is None else window_size
        margin = max(side - patch_size, 0) if padding == "zeros" else 0
        if padding == "zeros" and (height % patch_size or width % patch_size):
            raise incompatible("patch_size", f"{height}x{width} pixels do not divide into patches of {patch_size}")
        if padding == "none" and side > min(resolution):
            raise incompatible(
                "padding", f"a window of {side} pixels does not fit into {height}x{width}; take padding: zeros"
            )
        self.margins = (margin // 2, margin - margin // 2)  # before and after, on both axes
        symmetric = self.margins[0] if margin % 2 == 0 else 0
        self.proj = nn.Conv2d(image_channels, dim, side, stride=patch_size, padding=symmetric)
        rows, columns = ((size + margin - side) // patch_size + 1 for size in resolution)
        self.class_token = nn.Parameter(0.02 * torch.randn(dim)) if class_token else None
        self.sine = position == "sine"
        spread = (1.0 if self.sine else 0.02) if pos_init is None else pos_init
        self.pos_embed = nn.Parameter(spread * torch.randn(rows * columns + class_token, dim))

    def forward(
        self, x: Float[Tensor, "b c h w"] | None, image: Float[Tensor, "b k i j"]
    ) -> tuple[Float[Tensor, "b d u v"], Float[Tensor, "b k i j"]]:
        check_nchw(self, image, self.proj.in_channels, name="image")
        check_resolution(self, image.shape[2], image.shape[3], self.resolution)
        before, after = self.margins
        padded = image if before == after else F.pad(image, (before, after, before, after))
        patches = self.proj(channels_last(padded)).permute(0, 2, 3, 1)  # b rows columns d
        position = torch.sin(self.pos_embed) if self.sine else self.pos_embed
        if self.class_token is None:
            tokens = patches + position.view(patches.shape[1:])
        else:
            first = self.class_token.expand(patches.shape[0], 1, -1)
            tokens = (torch.cat([first, patches.flatten(1, 2)], dim=1) + position)[:, None]
        return tokens.permute(0, 3, 1, 2), image
