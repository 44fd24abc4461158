"""The squared slope of the discriminator along a random direction at each image, without second derivatives.

GAT, https://arxiv.org/abs/2509.24935: to first order its expectation is the squared gradient norm.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor

from blocks.common.autocast import at_least_float32
from blocks.common.replay import with_same_draws
from blocks.families import Batch, Networks, Scheduled, ScheduledIn
from blocks.regularizer.gamma_penalty import GammaPenalty


class SquaredSlopes(GammaPenalty):
    """The options of the approximate R1 and R2."""

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"gamma": 2.0, "sigma": 0.1}},)

    def __init__(self, *, gamma: Annotated[Scheduled, ScheduledIn(ge=0)] = 10.0, sigma: PositiveFloat = 0.01) -> None:
        super().__init__(gamma)
        self.sigma = sigma

    def penalties(self, networks: Networks, batch: Batch) -> Float[Tensor, " b"]:
        return squared_slopes(networks, self.images(networks, batch), batch.c, self.sigma)


def squared_slopes(
    networks: Networks, image: Float[Tensor, "b k h w"], c: Float[Tensor, "b d"] | None, sigma: float
) -> Float[Tensor, " b"]:
    """((D(T(x)) - D(T(x + sigma e))) / sigma)^2, e ~ N(0,1); D of several logits is their sum.

    Both calls have the same random numbers, so that augmentation and noise in the discriminator are the same. Both have
    gradients.
    """
    draw: Any = getattr(networks.augment, "draw", None)
    options = {} if draw is None else {"draws": draw(image)}

    def score(image: Tensor) -> Tensor:
        augment: Any = networks.augment
        logits: Tensor = networks.discriminator(augment(image, **options), c)
        return at_least_float32(logits).reshape(len(image), -1).sum(dim=1)

    before, after = with_same_draws(score, image, image + sigma * torch.randn_like(image))
    return ((before - after) / sigma).square().to(image.dtype)
