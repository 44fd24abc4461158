"""The Wasserstein loss: how far apart the critic can hold the means of its scores.

WGAN, Arjovsky et al. 2017, https://arxiv.org/abs/1701.07875, section 3. It wants a Lipschitz critic: add
`gradient-penalty`, or take a weight norm.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from blocks.families import Loss


class Wasserstein(Loss, kind="wasserstein"):
    """Wasserstein loss: D(fake) - D(real) against -D(fake), means over all logits."""

    def __init__(self) -> None:
        super().__init__()

    def generator(self, fake: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
        return -fake.mean()

    def discriminator(self, real: Float[Tensor, "b ..."], fake: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
        return fake.mean() - real.mean()
