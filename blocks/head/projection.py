"""Projection: a conditional discriminator compares its features with an embedding of the condition.

Miyato and Koyama 2018, https://arxiv.org/abs/1802.05637; with a mapping network for the embedding as in StyleGAN2-ADA.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn

from blocks.equalized import EqualLinear


class Projection(nn.Module):
    """Scalar product of features and an embedded condition, over sqrt(D).

    Args:
        dim: Features D.
        cond_dim: Features of the condition.
        num_layers: Layers of the mapping network after the embedding, which is then normalised; 0 for the embedding alone.
    """

    def __init__(self, dim: int, cond_dim: int, num_layers: int) -> None:
        super().__init__()
        self.embed = EqualLinear(cond_dim, dim)
        self.layers = nn.ModuleList(EqualLinear(dim, dim, lr_multiplier=0.01, activation="lrelu") for _ in range(num_layers))

    def forward(self, features: Float[Tensor, "b ... d"], c: Float[Tensor, "b e"] | None) -> Float[Tensor, "b ..."]:
        if c is None:
            raise ValueError("this discriminator is conditional: it needs c")
        e = self.embed(c)
        if len(self.layers):
            e = e * (e.square().mean(dim=-1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.layers:
            e = layer(e)
        between = (1,) * (features.ndim - 2)
        return (features * e.view(e.shape[0], *between, -1)).sum(dim=-1) / math.sqrt(e.shape[-1])
