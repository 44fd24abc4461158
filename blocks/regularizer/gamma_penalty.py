"""The form of R1, R2 and their approximations: gamma / 2 times a squared slope of the discriminator at each image.

Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, section 4.1.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from blocks.families import Batch, CurrentValue, Networks, Regularizer, Scheduled


class GammaPenalty(Regularizer):
    """gamma / 2 times the mean of `penalties` at `images`.

    Args:
        gamma: Weight of the penalty; a number or a schedule.
    """

    side = "discriminator"

    def __init__(self, gamma: Scheduled) -> None:
        super().__init__()
        self.gamma = CurrentValue(gamma)

    def at(self, images: int) -> None:
        self.gamma.at(images)

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        mean = self.penalties(networks, batch).mean()
        return mean * (self.gamma.factor(mean) / 2)

    def images(self, networks: Networks, batch: Batch) -> Float[Tensor, "b k h w"]:
        """The images at which the slope is penalised."""
        raise NotImplementedError

    def penalties(self, networks: Networks, batch: Batch) -> Float[Tensor, " b"]:
        """The squared slope at each image."""
        raise NotImplementedError
