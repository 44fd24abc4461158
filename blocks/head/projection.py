"""Logits with or without a condition: projection, a scalar product of features and a condition embedding.

Miyato and Koyama 2018, https://arxiv.org/abs/1802.05637.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn

from blocks.common.equalized import EqualLinear


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
    features: Float[Tensor, "b ... d"], c: Float[Tensor, "b e"] | None, projection: Projection | None
) -> Float[Tensor, "b ..."]:
    """Scalar products with the condition; without a projection the features are one number, the logit itself.

    Raises:
        ValueError: The condition is missing, has another width, or there is one where none is expected.
    """
    if projection is None:
        if c is not None:
            raise ValueError(
                f"this discriminator is unconditional (cond_dim 0), but c has {c.shape[1]} features; pass no c, or "
                f"build the discriminator with cond_dim {c.shape[1]}"
            )
        return features[..., 0]
    if c is None:
        raise ValueError(f"this discriminator is conditional: pass c, {projection.cond_dim} features for each image")
    if c.shape[1] != projection.cond_dim:
        raise ValueError(f"c has {c.shape[1]} features, but the discriminator was built for {projection.cond_dim}")
    logits: Tensor = projection(features, c)
    return logits
