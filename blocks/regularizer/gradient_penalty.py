"""Gradient penalty: the gradient norm of the discriminator should be 1 between real and generated images.

WGAN-GP, Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, section 4.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from blocks.families import Batch, Networks, Regularizer
from blocks.regularizer.fake_images import fake_images


class GradientPenalty(Regularizer, kind="gradient-penalty"):
    """weight (|gradient of D at a x + (1-a) g| - target)^2, mean over the batch, a ~ U(0,1) drawn for each pair.

    x and g are real and generated images, by default after the GAN's augmentation. If there are several logits per
    image, the gradient is that of their mean, as in the Wasserstein loss.

    Args:
        weight: Weight of the penalty.
        target: Target of the gradient norm.
        augmented: Whether images are augmented by the GAN's augmentation first; not in the ViTGAN authors' code.
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
        assert batch.real is not None, "the gradient penalty needs real images"
        with torch.no_grad():
            real, fake = batch.real, fake_images(networks, batch)
            if self.augmented:
                real, fake = networks.augment(real), networks.augment(fake)
            weight = torch.rand(real.shape[0], 1, 1, 1, device=real.device, dtype=real.dtype)
            between = weight * real + (1 - weight) * fake
        return self.penalty(networks, between, batch.c)

    def penalty(self, networks: Networks, image: Float[Tensor, "b k h w"], c: Tensor | None) -> Float[Tensor, ""]:
        """The penalty at these images."""
        image = image.detach().requires_grad_()
        logits = networks.discriminator(image, c)
        means = logits.sum() / (logits.numel() // image.shape[0])  # of each image's logits, summed over the batch
        (gradient,) = torch.autograd.grad(means, image, create_graph=True)
        norm: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        return (norm - self.target).square().mean() * self.weight
