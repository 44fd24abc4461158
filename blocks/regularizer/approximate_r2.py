"""R2 by finite differences: no second derivatives, so that fused kernels and mixed precision work in every phase.

GAT, https://arxiv.org/abs/2509.24935; the exact penalty: `r2`.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from blocks.families import Batch, Networks
from blocks.regularizer.fake_images import fake_images
from blocks.regularizer.finite_differences import SquaredSlopes


class ApproximateR2(SquaredSlopes, kind="approximate-r2"):
    """gamma / 2 times ((D(x) - D(x + sigma e)) / sigma)^2 at generated images, e ~ N(0,1), mean over the batch.

    The noise is added before the GAN's augmentation, which is the same for both. As sigma falls, the expectation over e
    converges to `r2`. In half precision the difference of two logits is divided by sigma, and so is its rounding
    error.

    Args:
        gamma: Weight of the penalty, as in `r2`; a number or a schedule.
        sigma: Standard deviation of the noise, in units of the images.
    """

    def images(self, networks: Networks, batch: Batch) -> Float[Tensor, "b k h w"]:
        return fake_images(networks, batch)
