"""Adaptive pseudo augmentation (APA): generated images are presented to the discriminator as real ones.

Jiang et al. 2021, https://arxiv.org/abs/2111.06849, section 3; for training on few images.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from blocks.augment.adaptive_probability import AdaptiveProbability
from blocks.common.shapes import check_nchw
from blocks.families import Augment, Probability, Scheduled, ScheduledIn
from registry import Slot


class APA(AdaptiveProbability, kind="apa"):
    """Replaces each real image of a discriminator step, with probability p, by the generated image of the same place.

    Loss and regularizers of the discriminator get the mixed images as real ones. Every `interval` steps p increases if
    the mean sign of their logits is above `target`, and decreases if it is below.

    Args:
        p: Initial probability; constant if there is no target. A schedule needs `target` null.
        target: Mean sign of the logits of the images presented as real, in (-1,1), that p is adjusted for; null for a
            constant p.
        kimg: Thousands of images in which p changes by 1.
        interval: Steps between two adjustments of p.
        limit: Maximum of p.
        then: Augmentation of all images after the replacement, such as ada; null for none.

    Raises:
        IncompatibleError: p exceeds its limit, or follows a schedule and adapts.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"p": 0.5, "target": None}},
        {"spec": {"p": 0.5, "then": "diffaugment"}},
    )

    def __init__(
        self,
        *,
        p: Annotated[Scheduled, ScheduledIn(ge=0, le=1)] = 0.0,
        target: Annotated[float, Field(gt=-1, lt=1)] | None = 0.6,
        kimg: PositiveFloat = 500.0,
        interval: PositiveInt = 4,
        limit: Probability = 1.0,
        then: Slot[Augment] | None = None,
    ) -> None:
        super().__init__(p, target, kimg, interval, limit)
        self.then: Augment | None = self.fill("then", then)

    def at(self, images: int) -> None:
        super().at(images)
        if self.then is not None:
            self.then.at(images)

    @torch.no_grad()
    def observe(self, sign: Float[Tensor, ""], num_images: int) -> None:
        super().observe(sign, num_images)
        if self.then is not None:
            self.then.observe(sign, num_images)

    def strength(self) -> dict[str, Tensor]:
        then = {} if self.then is None else self.then.strength()
        return super().strength() | {f"then.{name}": value for name, value in then.items()}

    def mix(self, real: Float[Tensor, "b k h w"], fake: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        if not self.training:
            return real
        if real.shape != fake.shape:  # images of several levels
            shapes = f"{list(real.shape)} and {list(fake.shape)}"
            raise ValueError(f"apa: real and generated images have shapes {shapes}; use another augmentation")
        replaced = torch.rand(real.shape[0], 1, 1, 1, device=real.device) < self.p
        return torch.where(replaced, fake, real)

    def forward(self, image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        check_nchw(self, image, name="image")
        return image if self.then is None else self.then(image)
