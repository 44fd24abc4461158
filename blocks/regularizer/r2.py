"""R2: a penalty on the gradient of the discriminator at generated images, the counterpart of R1.

Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, section 4.1; together with R1 in R3GAN, Huang et al. 2024,
https://arxiv.org/abs/2501.05441, section 2.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from blocks.families import Batch, Networks, Regularizer, Scheduled, ScheduledIn, value_at
from blocks.regularizer.fake_images import fake_images
from blocks.regularizer.squared_gradients import squared_gradients


class R2(Regularizer, kind="r2"):
    """gamma / 2 times the squared gradient norm of D at generated images, mean over the batch.

    The gradient is that of the sum of all logits D(T(g)) by the image g before the GAN's augmentation T.

    Args:
        gamma: Weight of the penalty; a number or a schedule.
    """

    side = "discriminator"
    second_order = True
    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"gamma": 2.0, "every": 16}},)

    def __init__(self, *, gamma: Annotated[Scheduled, ScheduledIn(ge=0)] = 10.0) -> None:
        super().__init__()
        self.schedule = gamma
        self.at(0)

    def at(self, images: int) -> None:
        self.gamma = value_at(self.schedule, images)

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        return squared_gradients(networks, fake_images(networks, batch), batch.c).mean() * (self.gamma / 2)
