"""Example loss: least squares.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from blocks.families import Loss


class Example(Loss, kind="example"):
    """(D(real) - 1)^2 + D(fake)^2 for D, (D(fake) - 1)^2 for G; means over all logits."""

    def generator(self, fake: Float[Tensor, "b ..."], real: Float[Tensor, "n ..."] | None = None) -> Float[Tensor, ""]:
        return (fake - 1).square().mean()

    def discriminator(self, real: Float[Tensor, "b ..."], fake: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
        return (real - 1).square().mean() + fake.square().mean()
