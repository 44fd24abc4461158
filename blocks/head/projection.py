"""Projection: a conditional discriminator compares its features with an embedding of the condition.

Miyato and Koyama 2018, https://arxiv.org/abs/1802.05637.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn

from blocks.common.equalized import EqualLinear


class Projection(nn.Module):
    """Scalar product of features and an embedded condition, over sqrt(D).

    Args:
        dim: Features D.
        cond_dim: Features of the condition.
        mapping: A mapping from no latent and the condition to one style of D features; None for a linear embedding.
    """

    def __init__(self, dim: int, cond_dim: int, mapping: nn.Module | None = None) -> None:
        super().__init__()
        self.embed = EqualLinear(cond_dim, dim) if mapping is None else None
        self.mapping = mapping

    def forward(self, features: Float[Tensor, "b ... d"], c: Float[Tensor, "b e"] | None) -> Float[Tensor, "b ..."]:
        if c is None:
            raise ValueError("this discriminator was made for conditions: give c")
        if self.mapping is None:
            assert self.embed is not None
            embedded = self.embed(c)
        else:
            embedded = self.mapping(c.new_zeros(c.shape[0], 0), c)[:, 0]
        between = (1,) * (features.ndim - 2)
        product: Tensor = features * embedded.view(c.shape[0], *between, -1)
        return product.sum(dim=-1) / math.sqrt(features.shape[-1])
