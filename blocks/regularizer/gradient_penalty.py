"""Gradient penalty: between real and generated images the discriminator's slope is held at one.

WGAN-GP, Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, section 4.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from blocks.families import Batch, Networks, Regularizer
from blocks.regularizer.fakes import fakes


class GradientPenalty(Regularizer, kind="gradient-penalty"):
    """weight (|gradient of D at a x + (1-a) g| - target)^2, mean over the batch, a ~ U(0,1) drawn for each pair.

    x and g are the images as the discriminator sees them in training, so with an augmentation they are augmented first
    unless told otherwise. Of several logits per image the gradient is of their mean, which is what the Wasserstein loss
    is made of.

    Args:
        weight: Weight of the penalty.
        target: The slope to hold; 0 only forbids steep places.
        augmented: Whether images pass through the GAN's augmentation first; the ViTGAN authors' code spares them.
    """

    side = "discriminator"
    second_order = True
    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"weight": 5.0, "target": 0.5, "augmented": False}},)

    def __init__(
        self,
        *,
        weight: Annotated[float, Field(ge=0)] = 10.0,
        target: Annotated[float, Field(ge=0)] = 1.0,
        augmented: bool = True,
    ) -> None:
        super().__init__()
        self.augmented = augmented
        self.weight = weight
        self.target = target

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        assert batch.real is not None, "the penalty looks at real images"
        with torch.no_grad():
            real, fake = batch.real, fakes(networks, batch)
            if self.augmented:
                real, fake = networks.augment(real), networks.augment(fake)
            share = torch.rand(real.shape[0], 1, 1, 1, device=real.device, dtype=real.dtype)
            between = share * real + (1 - share) * fake
        return self.penalty(networks, between, batch.c)

    def penalty(self, networks: Networks, image: Float[Tensor, "b k h w"], c: Tensor | None) -> Float[Tensor, ""]:
        """The penalty at given images."""
        image = image.detach().requires_grad_()
        logits = networks.discriminator(image, c)
        means = logits.sum() / (logits.numel() // image.shape[0])  # of each image's logits, summed over the batch
        (gradient,) = torch.autograd.grad(means, image, create_graph=True)
        slope: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        return (slope - self.target).square().mean() * self.weight
