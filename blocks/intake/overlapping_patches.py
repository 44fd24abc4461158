"""Overlapping patches: the tokens of a vision transformer, cut so that neighbours share their borders.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, section 3.2: overlap gives the transformer a sense of
locality and keeps it from learning the images by heart.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from blocks.families import Intake, Resolution
from registry import misfit


class OverlappingPatches(Intake, kind="overlapping-patches"):
    """One token for each square patch of the image, seen with a margin around it, plus a learned position.

    Args:
        image_channels: Channels of the image.
        resolution: Height and width of the image, in pixels.
        in_dim: Channels of features that are there already; there must be none.
        dim: Features D of a token.
        patch_size: Side P of a patch and step between patches, in pixels.
        overlap: Margin o around each patch, in pixels: it is seen as a square of side P + 2 o, zeros outside the image.
        class_token: Whether a learned token comes first. The features are then the one-row map [B,D,1,1+N] of all
            tokens, otherwise the map [B,D,H/P,W/P].
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {
            "spec": {"dim": 12, "patch_size": 2, "overlap": 1},
            "wiring": {"in_dim": None, "dim": None, "resolution": (8, 6)},
        },
        {"spec": {"dim": 12, "class_token": True}, "wiring": {"in_dim": None, "dim": None, "resolution": (8, 8)}},
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
        class_token: bool = False,
    ) -> None:
        super().__init__()
        height, width = resolution
        if in_dim is not None:
            raise misfit((), f"patches start a discriminator, but {in_dim} channels of features are there already")
        if height % patch_size or width % patch_size:
            raise misfit("patch_size", f"{height}x{width} pixels do not divide into patches of {patch_size}")
        rows, columns = height // patch_size, width // patch_size
        self.proj = nn.Conv2d(image_channels, dim, patch_size + 2 * overlap, stride=patch_size, padding=overlap)
        self.class_token = nn.Parameter(0.02 * torch.randn(dim)) if class_token else None
        self.pos_embed = nn.Parameter(0.02 * torch.randn(rows * columns + class_token, dim))

    def forward(
        self, x: Float[Tensor, "b c h w"] | None, image: Float[Tensor, "b k i j"]
    ) -> tuple[Float[Tensor, "b d u v"], Float[Tensor, "b k i j"]]:
        patches = self.proj(image.contiguous(memory_format=torch.channels_last)).permute(0, 2, 3, 1)  # b rows columns d
        if self.class_token is None:
            tokens = patches + self.pos_embed.view(patches.shape[1:])
        else:
            first = self.class_token.expand(patches.shape[0], 1, -1)
            tokens = (torch.cat([first, patches.flatten(1, 2)], dim=1) + self.pos_embed)[:, None]
        return tokens.permute(0, 3, 1, 2), image
