"""The non-saturating loss: D is a logistic classifier, G maximises the probability that D assigns to its images.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, section 3; with softplus, as in StyleGAN.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.families import Loss


class NonSaturating(Loss, kind="non-saturating"):
    """Logistic loss: softplus(-D(real)) + softplus(D(fake)) for D, softplus(-D(fake)) for G; means over all logits."""

    def generator(self, fake: Float[Tensor, "b ..."], real: Float[Tensor, "n ..."] | None = None) -> Float[Tensor, ""]:
        return F.softplus(-fake).mean()

    def discriminator(self, real: Float[Tensor, "b ..."], fake: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
        return F.softplus(-real).mean() + F.softplus(fake).mean()
