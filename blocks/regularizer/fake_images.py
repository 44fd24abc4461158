"""Generated images for a regularizer of the discriminator.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661: for the discriminator they are constants.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.families import Batch, Networks


def fake_images(networks: Networks, batch: Batch) -> Float[Tensor, "b k h w"]:
    """The batch's generated images; if it has only latents, they are generated without gradients."""
    if batch.fake is not None:
        return batch.fake
    assert batch.z is not None, "the batch has neither generated images nor latents"
    with torch.no_grad():
        image: Tensor = networks.generator(batch.z, batch.generator_c)
    return image
