"""The generated images that a discriminator's regularizer looks at.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661: to the discriminator they are constants.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.families import Batch, Networks


def fakes(networks: Networks, batch: Batch) -> Float[Tensor, "b k h w"]:
    """The batch's generated images; a phase that has only latents gets them generated, without gradients."""
    if batch.fake is not None:
        return batch.fake
    assert batch.z is not None, "a regularizer that looks at generated images needs them, or latents to make them from"
    with torch.no_grad():
        image: Tensor = networks.generator(batch.z, batch.c)
    return image
