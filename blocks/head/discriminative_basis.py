"""R3GAN's head: a learned map per channel weights the pixels, and a linear map follows.

R3GAN, Huang et al. 2024, https://arxiv.org/abs/2501.05441, section 3; conditional by projection, Miyato and Koyama
2018, https://arxiv.org/abs/1802.05637.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.shapes import check_condition, check_nchw, check_resolution
from blocks.families import Head, Resolution


class DiscriminativeBasis(Head, kind="discriminative-basis"):
    """A weighted sum of the pixels in each channel, then a linear map without bias, to one logit.

    With a condition the linear map has `embed_dim` outputs, and the logit is their scalar product with a linear
    embedding of the condition, without a further scale.

    Args:
        dim: Channels C of the features.
        resolution: Height and width of the features, in pixels.
        cond_dim: Features of the condition c; 0 for no condition.
        embed_dim: Features of the embedding; null for C.
    """

    examples: ClassVar = ({"spec": {"embed_dim": 6}},)

    def __init__(
        self, dim: int, resolution: Resolution, cond_dim: int = 0, *, embed_dim: PositiveInt | None = None
    ) -> None:
        super().__init__()
        self.dim, self.resolution, self.cond_dim = dim, resolution, cond_dim
        self.basis = nn.Parameter(torch.randn(dim, *resolution) / math.sqrt(math.prod(resolution)))
        out_dim = (embed_dim or dim) if cond_dim else 1
        self.linear = nn.Linear(dim, out_dim, bias=False)
        nn.init.normal_(self.linear.weight, std=1 / math.sqrt(dim))
        self.embed: nn.Linear | None = None
        if cond_dim:
            self.embed = nn.Linear(cond_dim, out_dim, bias=False)
            nn.init.normal_(self.embed.weight, std=1 / math.sqrt(cond_dim * out_dim))

    def forward(self, x: Float[Tensor, "b c h w"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b 1"]:
        y = self.outputs(x)
        check_condition(self, c, self.cond_dim, x)
        return y if self.embed is None else (y * self.embed(c)).sum(dim=1, keepdim=True)

    def outputs(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o"]:
        """The outputs of the linear map: the logit, or what the embedded condition is multiplied by."""
        check_nchw(self, x, self.dim)
        check_resolution(self, x.shape[2], x.shape[3], self.resolution)
        y: Tensor = self.linear((x * self.basis).sum(dim=(2, 3)))
        return y
