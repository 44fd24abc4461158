"""A probability that adapts to the overfitting of the discriminator, measured by the sign of its logits.

StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676, section 3.1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.families import Augment, Scheduled, value_at
from registry import Spec, incompatible


class AdaptiveProbability(Augment):
    """An augmentation with a probability p.

    Every `interval` steps p increases if the mean sign of the logits of real images is above `target`, and decreases if
    it is below.

    Args:
        p: Initial probability; constant if there is no target. A schedule needs `target` None.
        target: Mean sign that p is adjusted for; None for a constant p.
        kimg: Thousands of images in which p changes by 1.
        interval: Steps between two adjustments of p.
        limit: Maximum of p; None for none.

    Raises:
        IncompatibleError: p exceeds its limit, or follows a schedule and adapts.
    """

    p: Tensor
    signs: Tensor
    shown: Tensor
    steps: Tensor

    def __init__(self, p: Scheduled, target: float | None, kimg: float, interval: int, limit: float | None) -> None:
        super().__init__()
        initial = value_at(p, 0)
        if limit is not None and initial > limit:
            raise incompatible("p", f"starts at {initial:g}, above its limit {limit:g}")
        self.schedule = p if isinstance(p, Spec) else None
        if self.schedule is not None and limit is not None and (highest := self.schedule.build().bounds()[1]) > limit:
            raise incompatible("p", f"reaches {highest:g}, above its limit {limit:g}")
        if self.schedule is not None and target is not None:
            raise incompatible("p", f"changes by a schedule and adapts to the target {target:g}; set target: null")
        self.target, self.kimg, self.interval, self.limit = target, kimg, interval, limit
        self.register_buffer("p", torch.tensor(float(initial)))
        for counter in ("signs", "shown", "steps"):  # since p was last adjusted
            self.register_buffer(counter, torch.zeros(()))

    def at(self, images: int) -> None:
        if self.schedule is not None:
            self.p.fill_(value_at(self.schedule, images))

    @torch.no_grad()
    def observe(self, sign: Float[Tensor, ""], num_images: int) -> None:
        if self.target is None:
            return
        self.signs += sign.nan_to_num() * num_images
        self.shown += num_images
        self.steps += 1
        due = self.steps >= self.interval
        move = (self.signs / self.shown - self.target).sign() * self.shown / (self.kimg * 1000)
        self.p.copy_(torch.where(due, (self.p + move).clamp(0, self.limit), self.p))
        for counter in (self.signs, self.shown, self.steps):
            counter.mul_(~due)

    def strength(self) -> dict[str, Tensor]:
        return {"p": self.p}
