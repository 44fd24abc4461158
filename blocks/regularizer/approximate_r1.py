"""R1 by finite differences: no second derivatives, so that fused kernels and mixed precision work in every phase.

GAT, https://arxiv.org/abs/2509.24935; the exact penalty: `r1`.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from blocks.families import Batch, Networks
from blocks.regularizer.finite_differences import SquaredSlopes


class ApproximateR1(SquaredSlopes, kind="approximate-r1"):
    """gamma / 2 times ((D(x) - D(x + sigma e)) / sigma)^2 at real images, e ~ N(0,1), mean over the batch.

    The noise is added before the GAN's augmentation, which is the same for both. As sigma falls, the expectation over e
    converges to `r1`. In half precision the difference of two logits is divided by sigma, and so is its rounding
    error.

    Args:
        gamma: Weight of the penalty, as in `r1`; a number or a schedule.
        sigma: Standard deviation of the noise, in units of the images.
    """

    def images(self, networks: Networks, batch: Batch) -> Float[Tensor, "b k h w"]:
        assert batch.real is not None, "approximate R1 needs real images"
        return batch.real
