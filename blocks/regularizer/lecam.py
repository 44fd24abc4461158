"""LeCam regularisation: logits stay close to the running mean of the other side's, for training on few images.

Tseng et al. 2021, https://arxiv.org/abs/2104.03310, section 3.2.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from blocks.common.autocast import at_least_float32
from blocks.common.recompute import is_recomputing
from blocks.families import Batch, Networks, Regularizer, Scheduled, ScheduledIn, value_at
from blocks.regularizer.fake_images import fake_images


class LeCam(Regularizer, kind="lecam"):
    """weight ((D(x) - a_fake)^2 + (D(g) - a_real)^2), means over all logits of real images x and generated images g.

    The anchors a_real and a_fake are running means of D(x) and D(g), updated before they are used and without
    gradients. They are 0 at first, and part of checkpoints. With `every` = 1 the logits are those of the main loss.

    Args:
        weight: Weight of the penalty; a number or a schedule.
        decay: Weight of the earlier anchor in each update.
    """

    side = "discriminator"
    needs_batch_mean = True
    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"weight": 0.5, "decay": 0.5, "every": 4}},)
    real_anchor: Tensor
    fake_anchor: Tensor

    def __init__(
        self,
        *,
        weight: Annotated[Scheduled, ScheduledIn(ge=0)] = 0.3,
        decay: Annotated[float, Field(ge=0, lt=1)] = 0.99,
    ) -> None:
        super().__init__()
        self.schedule, self.decay = weight, decay
        self.at(0)
        for name in ("real_anchor", "fake_anchor"):
            self.register_buffer(name, torch.zeros(()))

    def at(self, images: int) -> None:
        self.weight = value_at(self.schedule, images)

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        real, fake = batch.real_logits, batch.fake_logits
        if real is None or fake is None:
            assert batch.real is not None, "LeCam regularisation needs real images"
            images = (batch.real, fake_images(networks, batch))
            real, fake = (networks.discriminator(networks.augment(each), batch.c) for each in images)
        real, fake = at_least_float32(real), at_least_float32(fake)
        for anchor, logits in ((self.real_anchor, real), (self.fake_anchor, fake)):
            self.update(anchor, networks.batch_mean(logits))
        a_real, a_fake = self.real_anchor.clone(), self.fake_anchor.clone()  # the next step moves the anchors in place
        distances = (real - a_fake).square().mean() + (fake - a_real).square().mean()
        return (distances * self.weight).to(self.real_anchor.dtype)

    @torch.no_grad()
    def update(self, anchor: Float[Tensor, ""], mean: Float[Tensor, ""]) -> None:
        """Move an anchor towards the mean of the batch's logits; one that is not finite does not move it."""
        if is_recomputing():
            return
        moved = anchor.lerp(mean.to(anchor.dtype), 1 - self.decay)
        anchor.copy_(torch.where(moved.isfinite(), moved, anchor))
