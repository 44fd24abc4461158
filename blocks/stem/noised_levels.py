"""GAT's discriminator intake: several levels of an image, each with noise, as patches with positions.

GAT, https://arxiv.org/abs/2509.24935.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from blocks.common.position import sine_cosine_grid
from blocks.common.shapes import check_nchw, check_resolution
from blocks.families import Resolution, Stem, channels_last
from blocks.stem.noise_path import add_noise, noise_levels, noise_path
from registry import incompatible


class NoisedLevels(Stem, kind="noised-levels"):
    """Patches of all levels together, with noise, and a class token: image -> the one-row map [B,D,1,1+N].

    A generated image has its levels side by side along the channels, coarsest first, as of a generator with
    `multi_level`. A real image is one level, and is repeated. Noise is always added, in eval mode too.

    Args:
        image_channels: Channels K of one level.
        resolution: Height and width of the image, in pixels; must be divisible by the patch size.
        in_dim: Channels of the features so far; must be None, for the first step of a discriminator.
        dim: Features D of a token; a multiple of 4.
        patch_size: Side of a patch, in pixels.
        num_levels: Number of levels.
        min_info: Share of the image that is left at the coarsest level, before the shift.
        shift: Added to each level's share of noise.

    Raises:
        IncompatibleError: The image does not divide into patches, D is not a multiple of 4, a share of noise is not
            below 1, or there are features already.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"dim": 12}, "context": {"in_dim": None, "dim": None}},
        {
            "spec": {"dim": 8, "patch_size": 1, "num_levels": 2, "min_info": 0.5, "shift": 0.1},
            "context": {"in_dim": None, "dim": None, "resolution": (4, 5)},
        },
    )

    def __init__(
        self,
        image_channels: int,
        resolution: Resolution,
        in_dim: int | None = None,
        *,
        dim: PositiveInt = 768,
        patch_size: PositiveInt = 2,
        num_levels: Annotated[int, Field(ge=2)] = 4,
        min_info: Annotated[float, Field(gt=0, lt=1)] = 0.125,
        shift: Annotated[float, Field(ge=0, lt=1)] = 0.01,
    ) -> None:
        super().__init__()
        height, width = self.resolution = resolution
        if in_dim is not None:
            fact = f"noised-levels must be the first stem, but there are features of {in_dim} channels already"
            raise incompatible((), fact)
        if height % patch_size or width % patch_size:
            raise incompatible("patch_size", f"{height}x{width} pixels do not divide into patches of {patch_size}")
        if dim % 4:
            raise incompatible("dim", f"{dim} is not a multiple of 4, which positions need; take {dim + 4 - dim % 4}")
        self.shares = noise_levels(num_levels, min_info, shift)
        if self.shares[0] >= 1:
            raise incompatible("shift", f"{shift:g} gives a share of noise of {self.shares[0]:g}; take less")
        self.image_channels, self.num_levels = image_channels, num_levels
        self.proj = nn.Conv2d(num_levels * image_channels, dim, patch_size, stride=patch_size)
        nn.init.xavier_uniform_(self.proj.weight.view(dim, -1))
        assert self.proj.bias is not None
        nn.init.zeros_(self.proj.bias)
        self.class_token = nn.Parameter(0.02 * torch.randn(dim))
        self.pos_embed = nn.Parameter(sine_cosine_grid(dim, (height // patch_size, width // patch_size)))

    def forward(
        self, x: Float[Tensor, "b c h w"] | None, image: Float[Tensor, "b k i j"]
    ) -> tuple[Float[Tensor, "b d 1 n"], Float[Tensor, "b k i j"]]:
        levels = self.levels_of(image)
        noisy = add_noise(levels, noise_path(torch.randn_like(levels), self.shares), self.shares)
        return self.tokens(noisy), image

    def levels_of(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "n b k h w"]:
        """The levels of a generated image, or a real image as often as there are levels."""
        if image.ndim == 4 and image.shape[1] == self.image_channels:
            image = image.repeat(1, self.num_levels, 1, 1)
        check_nchw(self, image, self.num_levels * self.image_channels, name="image")
        check_resolution(self, image.shape[2], image.shape[3], self.resolution)
        batch, _, height, width = image.shape
        return image.reshape(batch, self.num_levels, self.image_channels, height, width).movedim(1, 0)

    def tokens(self, levels: Float[Tensor, "n b k h w"]) -> Float[Tensor, "b d 1 n"]:
        """The class token and the patches of all levels together."""
        image = levels.movedim(0, 1).flatten(1, 2)
        patches = self.proj(channels_last(image)).permute(0, 2, 3, 1) + self.pos_embed
        first = self.class_token.to(patches.dtype).expand(patches.shape[0], 1, -1)
        return torch.cat([first, patches.flatten(1, 2)], dim=1)[:, None].permute(0, 3, 1, 2)
