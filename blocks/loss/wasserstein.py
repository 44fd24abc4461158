"""The Wasserstein loss: the difference between the critic's mean scores of generated and of real images.

WGAN, Arjovsky et al. 2017, https://arxiv.org/abs/1701.07875, section 3. The critic has to be Lipschitz: add
`gradient-penalty` or a weight norm.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from blocks.families import Loss


class Wasserstein(Loss, kind="wasserstein"):
    """Wasserstein loss: D(fake) - D(real) for D, -D(fake) for G; means over all logits."""

    def generator(self, fake: Float[Tensor, "b ..."], real: Float[Tensor, "n ..."] | None = None) -> Float[Tensor, ""]:
        return -fake.mean()

    def discriminator(self, real: Float[Tensor, "b ..."], fake: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
        return fake.mean() - real.mean()
