"""R3GAN's synthesis input: learned maps, scaled by a linear map of the latent.

R3GAN, Huang et al. 2024, https://arxiv.org/abs/2501.05441, section 3.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.shapes import check_styles
from blocks.families import Resolution, SynthesisInput, channels_last


class GenerativeBasis(SynthesisInput, kind="generative-basis"):
    """basis_c (A w)_c for each channel c: a learned map, N(0,1) at init, times a linear function of the style w.

    Args:
        style_dim: Features S of the style; with `no-mapping`, the latent itself.
        dim: Channels C of the map.
        resolution: Height and width of the map.
    """

    examples: ClassVar = ({"spec": {"dim": 16, "resolution": [3, 5]}},)
    num_styles = 1

    def __init__(self, style_dim: int, *, dim: PositiveInt = 768, resolution: Resolution = (4, 4)) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(dim, *resolution))
        self.linear = nn.Linear(style_dim, dim, bias=False)
        nn.init.normal_(self.linear.weight, std=1 / math.sqrt(style_dim))

    def forward(self, ws: Float[Tensor, "b n s"]) -> Float[Tensor, "b c h w"]:
        ws = check_styles(self, ws, 1, self.linear.in_features, ws)
        scales: Tensor = self.linear(ws[:, 0])
        return channels_last(self.basis * scales[:, :, None, None])
