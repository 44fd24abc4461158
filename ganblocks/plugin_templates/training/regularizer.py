"""Example regularizer: keeps the logits of real images near 0.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from blocks.families import Batch, Networks, Regularizer


class Example(Regularizer, kind="example"):
    """epsilon times the mean of D(real)^2.

    Args:
        epsilon: Weight of the penalty.
    """

    side = "discriminator"

    def __init__(self, *, epsilon: PositiveFloat = 1e-3) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        assert batch.real is not None, "this regularizer needs real images"
        logits = batch.real_logits
        if logits is None:  # in a phase of its own, with every > 1
            logits = networks.discriminator(networks.augment(batch.real), batch.c)
        return self.epsilon * logits.square().mean()
