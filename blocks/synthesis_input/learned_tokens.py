"""Tokens that a transformer starts from: one for each patch of the image, made from its coordinates.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, section 3.3.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.position import LearnedFourier
from blocks.families import Resolution, SynthesisInput, to_nchw
from registry import incompatible


class LearnedTokens(SynthesisInput, kind="learned-tokens"):
    """Learned Fourier features: sin(A p + a) of a token's place p in [-1,1]^2, the same for every image or plus w.

    Args:
        style_dim: Features S of the style, if it is added.
        dim: Channels C of a token.
        resolution: Rows and columns of tokens.
        coordinates: "affine" learns A and a, the paper's way; "free" learns the angle of each token, without a place.
        latent: "none" leaves the style to the layers' norms, the paper's choice; "add" adds it to every token, which
            the paper compares with.

    Raises:
        IncompatibleError: The style that is added has another width than the tokens, or there is none.
    """

    examples: ClassVar = (
        {"spec": {"dim": 16, "resolution": [3, 5]}},
        {"spec": {"dim": 16, "resolution": [4, 3], "coordinates": "free"}},
        {"spec": {"dim": 12, "resolution": [4, 3], "latent": "add"}, "context": {"style_dim": 12}},
    )

    angles: Tensor

    def __init__(
        self,
        style_dim: int | None = None,
        *,
        dim: PositiveInt = 384,
        resolution: Resolution = (8, 8),
        coordinates: Literal["affine", "free"] = "affine",
        latent: Literal["none", "add"] = "none",
    ) -> None:
        super().__init__()
        if latent == "add" and style_dim != dim:
            there = "there is no style here" if style_dim is None else f"the style has {style_dim} features"
            raise incompatible("latent", f"{there}, a token {dim}: what is added is as wide; set w_dim to {dim}")
        self.num_styles = int(latent == "add")
        free = coordinates == "free"
        self.fourier = None if free else LearnedFourier(dim, resolution)
        self.register_parameter("angles", nn.Parameter(torch.randn(*resolution, dim)) if free else None)

    def forward(self, ws: Float[Tensor, "b n s"]) -> Float[Tensor, "b c h w"]:
        tokens: Tensor = torch.sin(self.angles) if self.fourier is None else self.fourier()
        if self.num_styles:
            return to_nchw(tokens + ws[:, 0, None, None])
        return to_nchw(tokens.expand(len(ws), -1, -1, -1).contiguous())
