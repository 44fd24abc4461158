"""LayerScale: a learned gain per channel on a residual branch, initially small.

CaiT, Touvron et al. 2021, https://arxiv.org/abs/2103.17239, section 2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocks.common.shapes import check_channels


class LayerScale(nn.Module):
    """Multiplies each channel by a learned gain.

    Args:
        dim: Channels C, the last axis of x.
        init: Initial value of the gains.
    """

    def __init__(self, dim: int, init: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        check_channels(self, x, self.gamma.shape[0])
        return x * self.gamma
