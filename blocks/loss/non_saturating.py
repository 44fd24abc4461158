"""The non-saturating loss: the discriminator classifies, the generator maximises the chance that its images pass.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, section 3; in the form of StyleGAN (with softplus).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.families import Loss


class NonSaturating(Loss, kind="non-saturating"):
    """Logistic loss: softplus(-D(real)) + softplus(D(fake)) against softplus(-D(fake)), means over all logits."""

    def __init__(self) -> None:
        super().__init__()

    def generator(self, fake: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
        return F.softplus(-fake).mean()

    def discriminator(self, real: Float[Tensor, "b ..."], fake: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
        return F.softplus(-real).mean() + F.softplus(fake).mean()
