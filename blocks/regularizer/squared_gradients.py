"""The squared gradient norm of the discriminator at each image, which R1 and R2 penalise.

Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, section 4.1.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.families import Batch, Networks, Scheduled, ScheduledIn
from blocks.regularizer.gamma_penalty import GammaPenalty
from registry import incompatible

Place = Literal["image", "features"]


class SquaredGradients(GammaPenalty):
    """The options of R1 and R2."""

    second_order = True
    source: ClassVar[Literal["real", "fake"]]  # which images
    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"gamma": 2.0, "every": 16}},)

    def __init__(
        self,
        has_features: bool = True,
        *,
        gamma: Annotated[Scheduled, ScheduledIn(ge=0)] = 10.0,
        at: Place = "image",
    ) -> None:
        super().__init__(gamma)
        if at == "features" and not has_features:
            fact = "the discriminator has no features of frozen networks"
            raise incompatible("at", f"{fact}; take at: image, or a discriminator of kind projected")
        self.place = at

    @property
    def shared_logits(self) -> Literal["real", "fake"] | None:
        return self.source if self.place == "image" else None

    def penalties(self, networks: Networks, batch: Batch) -> Float[Tensor, " b"]:
        images, logits = self.images(networks, batch), getattr(batch, f"{self.source}_logits")
        if self.shared_logits and images.requires_grad and logits is not None:
            return squared_gradient(logits, images)
        return squared_gradients(networks, images, batch.c, self.place)


def squared_gradients(
    networks: Networks, image: Float[Tensor, "b k h w"], c: Float[Tensor, "b d"] | None, at: Place = "image"
) -> Float[Tensor, " b"]:
    """|gradient of the sum of all logits D(T(x))|^2 by each image x, before the augmentation T.

    At "features" the gradient is by the features that enter the heads of a discriminator on frozen networks.
    """
    if at == "features":
        discriminator: Any = networks.discriminator
        with torch.no_grad():
            features = discriminator.features(networks.augment(image))
        features = [each.detach().requires_grad_() for each in features]
        logits = discriminator.logits(features, c)
        gradients = torch.autograd.grad(logits.sum(), features, create_graph=True)
        return torch.stack([gradient.square().flatten(1).sum(dim=1) for gradient in gradients]).sum(dim=0)
    image = image.detach().requires_grad_()
    return squared_gradient(networks.discriminator(networks.augment(image), c), image)


def squared_gradient(logits: Float[Tensor, "b ..."], image: Float[Tensor, "b k h w"]) -> Float[Tensor, " b"]:
    """|gradient of the sum of all logits by each image|^2."""
    (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))
