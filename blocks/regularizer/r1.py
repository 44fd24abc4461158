"""R1: a penalty on the gradient of the discriminator at real images, for convergence.

Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, section 4.1; lazy, every so many steps: StyleGAN2, section 3.1.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from blocks.families import Batch, Networks, Regularizer, Scheduled, ScheduledIn, value_at
from blocks.regularizer.squared_gradients import Place, check_place, squared_gradients


class R1(Regularizer, kind="r1"):
    """gamma / 2 times the squared gradient norm of D at real images, mean over the batch.

    The gradient is that of the sum of all logits D(T(x)) by the image x before the GAN's augmentation T.

    Args:
        has_features: Whether the discriminator has features of frozen networks.
        gamma: Weight of the penalty; a number or a schedule.
        at: Where the gradient is taken: "image", or "features", those of frozen networks that enter the heads of a
            projected discriminator.

    Raises:
        IncompatibleError: The discriminator has no such features.
    """

    side = "discriminator"
    second_order = True
    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"gamma": 2.0, "every": 16}},)

    def __init__(
        self,
        has_features: bool = True,
        *,
        gamma: Annotated[Scheduled, ScheduledIn(ge=0)] = 10.0,
        at: Place = "image",
    ) -> None:
        super().__init__()
        check_place(at, has_features)
        self.schedule, self.place = gamma, at
        self.at(0)

    def at(self, images: int) -> None:
        self.gamma = value_at(self.schedule, images)

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        assert batch.real is not None, "R1 needs real images"
        return self.penalties(networks, batch.real, batch.c).mean() * (self.gamma / 2)

    def penalties(
        self, networks: Networks, real: Float[Tensor, "b k h w"], c: Float[Tensor, "b d"] | None
    ) -> Float[Tensor, " b"]:
        """Squared gradient norm at each image."""
        return squared_gradients(networks, real, c, self.place)
