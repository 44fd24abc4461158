"""Logits with or without a condition: projection, a scalar product of features and a condition embedding.

Miyato and Koyama 2018, https://arxiv.org/abs/1802.05637.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn

from blocks.common.equalized import EqualLinear
from blocks.common.shapes import check_condition


class Projection(nn.Module):
    """Scalar product of features and the embedded condition, divided by sqrt(D).

    Args:
        dim: Features D.
        cond_dim: Features of the condition.
        mapping: Embeds the condition: a mapping without latent and with one style of D features; None for a linear
            embedding.
    """

    def __init__(self, dim: int, cond_dim: int, mapping: nn.Module | None = None) -> None:
        super().__init__()
        self.cond_dim = cond_dim
        self.embed = EqualLinear(cond_dim, dim) if mapping is None else None
        self.mapping = mapping

    def forward(self, features: Float[Tensor, "b ... d"], c: Float[Tensor, "b e"]) -> Float[Tensor, "b ..."]:
        if self.mapping is None:
            assert self.embed is not None
            embedded = self.embed(c)
        else:
            embedded = self.mapping(c.new_zeros(c.shape[0], 0), c)[:, 0]
        ones = (1,) * (features.ndim - 2)
        product: Tensor = features * embedded.view(c.shape[0], *ones, embedded.shape[1])
        return product.sum(dim=-1) / math.sqrt(features.shape[-1])


def to_logits(
    head: nn.Module, features: Float[Tensor, "b ... d"], c: Float[Tensor, "b e"] | None, projection: Projection | None
) -> Float[Tensor, "b ..."]:
    """Scalar products with the condition; without a projection the features are one number, the logit itself.

    Raises:
        ValueError: The condition is missing, has another shape, or there is one where none is expected.
    """
    check_condition(head, c, 0 if projection is None else projection.cond_dim, features)
    if projection is None:
        return features[..., 0]
    logits: Tensor = projection(features, c)
    return logits
