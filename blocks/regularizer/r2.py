"""R2: a penalty on the gradient of the discriminator at generated images, the counterpart of R1.

Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, section 4.1; together with R1 in R3GAN, Huang et al. 2024,
https://arxiv.org/abs/2501.05441, section 2.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from blocks.families import Batch, Networks
from blocks.regularizer.fake_images import fake_images
from blocks.regularizer.squared_gradients import SquaredGradients


class R2(SquaredGradients, kind="r2"):
    """gamma / 2 times the squared gradient norm of D at generated images, mean over the batch.

    The gradient is that of the sum of all logits D(T(g)) by the image g before the GAN's augmentation T.

    Args:
        has_features: Whether the discriminator has features of frozen networks.
        gamma: Weight of the penalty; a number or a schedule.
        at: Where the gradient is taken: "image", or "features", those of frozen networks that enter the heads of a
            projected discriminator.

    Raises:
        IncompatibleError: The discriminator has no such features.
    """

    source = "fake"

    def images(self, networks: Networks, batch: Batch) -> Float[Tensor, "b k h w"]:
        return fake_images(networks, batch)
