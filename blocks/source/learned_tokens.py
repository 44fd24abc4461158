"""Tokens that a transformer starts from: one for each patch of the image, made from its coordinates.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, section 3.3.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.families import Resolution, Source, channels_first
from blocks.position import LearnedFourier


class LearnedTokens(Source, kind="learned-tokens"):
    """Learned Fourier features, the same for every image: sin(A p + a) of a token's place p in [-1,1]^2.

    Args:
        dim: Channels C of a token.
        resolution: Rows and columns of tokens.
        coordinates: "affine" learns A and a, the paper's way; "free" learns the angle of each token, without a place.
    """

    examples: ClassVar = (
        {"spec": {"dim": 16, "resolution": [3, 5]}},
        {"spec": {"dim": 16, "resolution": [4, 3], "coordinates": "free"}},
    )

    angles: Tensor

    def __init__(
        self,
        *,
        dim: PositiveInt = 384,
        resolution: Resolution = (8, 8),
        coordinates: Literal["affine", "free"] = "affine",
    ) -> None:
        super().__init__()
        free = coordinates == "free"
        self.fourier = None if free else LearnedFourier(dim, resolution)
        self.register_parameter("angles", nn.Parameter(torch.randn(*resolution, dim)) if free else None)

    def forward(self, ws: Float[Tensor, "b n s"]) -> Float[Tensor, "b c h w"]:
        tokens: Tensor = torch.sin(self.angles) if self.fourier is None else self.fourier()
        return channels_first(tokens.expand(len(ws), -1, -1, -1).contiguous())
