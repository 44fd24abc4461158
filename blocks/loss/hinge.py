"""The hinge loss: logits beyond a margin of 1 have no gradient for the discriminator.

Geometric GAN, Lim and Ye 2017, https://arxiv.org/abs/1705.02894, section 3; used by SAGAN and StyleGAN-T.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.families import Loss


class Hinge(Loss, kind="hinge"):
    """Hinge loss: relu(1 - D(real)) + relu(1 + D(fake)) for D, -D(fake) for G; means over all logits."""

    def generator(self, fake: Float[Tensor, "b ..."], real: Float[Tensor, "n ..."] | None = None) -> Float[Tensor, ""]:
        return -fake.mean()

    def discriminator(self, real: Float[Tensor, "b ..."], fake: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
