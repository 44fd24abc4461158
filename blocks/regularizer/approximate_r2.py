"""R2 by finite differences: no second derivatives, so that fused kernels and mixed precision work in every phase.

GAT, https://arxiv.org/abs/2509.24935; the exact penalty: `r2`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from blocks.families import Batch, Networks, Regularizer, Scheduled, ScheduledIn, value_at
from blocks.regularizer.fake_images import fake_images
from blocks.regularizer.finite_differences import squared_slopes


class ApproximateR2(Regularizer, kind="approximate-r2"):
    """gamma / 2 times ((D(x) - D(x + sigma e)) / sigma)^2 at generated images, e ~ N(0,1), mean over the batch.

    The noise is added before the GAN's augmentation, which is the same for both. As sigma falls, the expectation over e
    converges to `r2`. In half precision the difference of two logits is divided by sigma, and so is its rounding
    error.

    Args:
        gamma: Weight of the penalty, as in `r2`; a number or a schedule.
        sigma: Standard deviation of the noise, in units of the images.
    """

    side = "discriminator"
    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"gamma": 2.0, "sigma": 0.1}},)

    def __init__(self, *, gamma: Annotated[Scheduled, ScheduledIn(ge=0)] = 10.0, sigma: PositiveFloat = 0.01) -> None:
        super().__init__()
        self.schedule, self.sigma = gamma, sigma
        self.at(0)

    def at(self, images: int) -> None:
        self.gamma = value_at(self.schedule, images)

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        return squared_slopes(networks, fake_images(networks, batch), batch.c, self.sigma).mean() * (self.gamma / 2)
