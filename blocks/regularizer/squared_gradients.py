"""The squared gradient norm of the discriminator at each image, which R1 and R2 penalise.

Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, section 4.1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.families import Networks


def squared_gradients(
    networks: Networks, image: Float[Tensor, "b k h w"], c: Float[Tensor, "b d"] | None
) -> Float[Tensor, " b"]:
    """|gradient of the sum of all logits D(T(x))|^2 by each image x, before the augmentation T."""
    image = image.detach().requires_grad_()
    logits = networks.discriminator(networks.augment(image), c)
    (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))
