"""Example mapping network: one hidden layer, the same style for all layers of the synthesis network.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.shapes import check_condition, check_vectors
from blocks.families import Mapping
from blocks.mapping.truncation import truncate, update_mean

W_AVG_BETA = 0.995


class Example(Mapping, kind="example"):
    """w = W2 silu(W1 [z; c]), with truncation towards the running mean of w.

    Args:
        z_dim: Features of z.
        style_dim: Features S of a style.
        num_styles: Number of styles in ws.
        cond_dim: Features D of c; 0 for none.
        hidden_dim: Features of the hidden layer.
    """

    w_avg: Tensor

    def __init__(
        self, z_dim: int, style_dim: int, num_styles: int, cond_dim: int = 0, *, hidden_dim: PositiveInt = 64
    ) -> None:
        super().__init__()
        self.z_dim, self.num_styles, self.cond_dim = z_dim, num_styles, cond_dim
        self.layers = nn.Sequential(
            nn.Linear(z_dim + cond_dim, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, style_dim)
        )
        self.register_buffer("w_avg", torch.zeros(style_dim))

    def forward(
        self,
        z: Float[Tensor, "b z"],
        c: Float[Tensor, "b d"] | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        update_w_avg: bool = True,
    ) -> Float[Tensor, "b n s"]:
        check_vectors(self, "z", z, self.z_dim)
        check_condition(self, c, self.cond_dim, z)
        w: Tensor = self.layers(z if c is None else torch.cat([z, c], dim=1))
        if self.training and update_w_avg:
            update_mean(self.w_avg, w, W_AVG_BETA)
        ws = w[:, None].expand(-1, self.num_styles, -1)
        return truncate(ws, self.w_avg, truncation_psi, truncation_cutoff)
