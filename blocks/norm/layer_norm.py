"""Layer normalisation over the channels of each pixel.

Ba et al. 2016, https://arxiv.org/abs/1607.06450, section 3.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.shapes import check_nhwc
from blocks.families import Norm


class LayerNorm(Norm, kind="layer-norm"):
    """Layer norm: gain * (x - mean) / std + bias, mean and std over the channels of each pixel.

    Args:
        dim: Channels C of the map.
        eps: Added to the variance.
    """

    def __init__(self, dim: int, *, eps: Annotated[float, Field(gt=0)] = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "b h w c"], w: Float[Tensor, "b s"] | None = None) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.weight.shape[0])
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
