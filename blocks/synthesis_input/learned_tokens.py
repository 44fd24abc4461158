"""The input tokens of a transformer generator: one for each patch of the image, computed from its coordinates.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, section 3.3.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.position import LearnedFourier
from blocks.common.shapes import check_styles
from blocks.families import Resolution, SynthesisInput, to_nchw
from registry import incompatible


class LearnedTokens(SynthesisInput, kind="learned-tokens"):
    """Learned Fourier features sin(A p + a) of a token's coordinates p in [-1,1]^2; the style w may be added.

    Args:
        style_dim: Features S of the style; used with `latent` "add".
        dim: Channels C of a token.
        resolution: Rows and columns of tokens.
        coordinates: "affine" learns A and a, as in the paper; "free" learns the angles of each token directly.
        latent: "none" uses no style here, the paper's choice; "add" adds the style to every token, one of the variants
            that the paper compares.

    Raises:
        IncompatibleError: With `latent` "add" there is no style, or it has another width than the tokens.
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
            fact = "there are no style vectors" if style_dim is None else f"style vectors have {style_dim} features"
            raise incompatible("latent", f"{fact}, but tokens have {dim}; set w_dim to {dim}")
        self.num_styles = int(latent == "add")
        free = coordinates == "free"
        self.fourier = None if free else LearnedFourier(dim, resolution)
        self.register_parameter("angles", nn.Parameter(torch.randn(*resolution, dim)) if free else None)

    def forward(self, ws: Float[Tensor, "b n s"]) -> Float[Tensor, "b c h w"]:
        tokens: Tensor = torch.sin(self.angles) if self.fourier is None else self.fourier()
        if self.num_styles:
            ws = check_styles(self, ws, 1, tokens.shape[2], ws)
            return to_nchw(tokens + ws[:, 0, None, None])
        return to_nchw(tokens.expand(ws.shape[0], -1, -1, -1).contiguous())
