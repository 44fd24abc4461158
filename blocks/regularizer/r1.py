"""R1: a penalty on the gradient of the discriminator at real images, for convergence.

Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, section 4.1; lazy, every so many steps: StyleGAN2, section 3.1.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from blocks.families import Batch, Networks
from blocks.regularizer.squared_gradients import SquaredGradients


class R1(SquaredGradients, kind="r1"):
    """gamma / 2 times the squared gradient norm of D at real images, mean over the batch.

    The gradient is that of the sum of all logits D(T(x)) by the image x before the GAN's augmentation T.

    Args:
        has_features: Whether the discriminator has features of frozen networks.
        gamma: Weight of the penalty; a number or a schedule.
        at: Where the gradient is taken: "image", or "features", those of frozen networks that enter the heads of a
            projected discriminator.

    Raises:
        IncompatibleError: The discriminator has no such features.
    """

    source = "real"

    def images(self, networks: Networks, batch: Batch) -> Float[Tensor, "b k h w"]:
        assert batch.real is not None, "R1 needs real images"
        return batch.real
