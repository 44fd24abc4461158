"""Matching-aware loss: an image with the condition of another one is not real, however good the image is.

GAN-INT-CLS, Reed et al. 2016, https://arxiv.org/abs/1605.05396, section 4.2; in this form, for real and generated
images, in GigaGAN, Kang et al. 2023, https://arxiv.org/abs/2303.05511, section 3.3.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.common.autocast import at_least_float32
from blocks.families import Batch, CurrentValue, Networks, Regularizer, Scheduled, ScheduledIn
from blocks.regularizer.fake_images import fake_images
from registry import incompatible


class MatchingAware(Regularizer, kind="matching-aware"):
    """weight (softplus(D(T(x), c')) + softplus(D(T(g), c'))), means over the batch; c' is the next image's condition.

    Pairs whose condition c' equals the image's own count as 0. A batch, or micro-batch, needs at least two images.

    Args:
        cond_dim: Features of the condition.
        weight: Weight of the term; a number or a schedule.

    Raises:
        IncompatibleError: The generator is unconditional.
    """

    side = "discriminator"
    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"weight": 0.5, "every": 2}},)

    def __init__(self, cond_dim: int | None = None, *, weight: Annotated[Scheduled, ScheduledIn(ge=0)] = 1.0) -> None:
        super().__init__()
        if not cond_dim:
            raise incompatible((), "needs captions or classes, and the generator is unconditional; give it a condition")
        self.weight = CurrentValue(weight)

    def at(self, images: int) -> None:
        self.weight.at(images)

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        assert batch.real is not None, "the matching-aware loss needs real images"
        assert batch.c is not None, "the matching-aware loss needs conditions"
        others = batch.c.roll(1, dims=0)
        differ = (others != batch.c).any(dim=1)
        terms = [self.losses(networks, image, others) for image in (batch.real, fake_images(networks, batch))]
        mean = (torch.stack(terms).sum(dim=0) * differ).mean()
        return mean * self.weight.factor(mean)

    def losses(
        self, networks: Networks, image: Float[Tensor, "b k h w"], c: Float[Tensor, "b d"]
    ) -> Float[Tensor, " b"]:
        """softplus of the logits of each image, mean over its logits."""
        logits = at_least_float32(networks.discriminator(networks.augment(image), c))
        return F.softplus(logits).reshape(len(image), -1).mean(dim=1).to(image.dtype)
