"""The relativistic pairing loss: D scores a real image against a generated one, G maximises its own side of the pair.

RpGAN, Jolicoeur-Martineau 2018, https://arxiv.org/abs/1807.00734; with R1 and R2 in R3GAN, Huang et al. 2024,
https://arxiv.org/abs/2501.05441, section 2.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.families import Loss


class Relativistic(Loss, kind="relativistic"):
    """softplus(-(D(real) - D(fake))) for D, softplus(-(D(fake) - D(real))) for G; means over all logits of the pairs.

    Image i of the real batch is paired with image i of the generated batch.
    """

    generator_needs_real = True

    def generator(self, fake: Float[Tensor, "b ..."], real: Float[Tensor, "b ..."] | None = None) -> Float[Tensor, ""]:
        if real is None:
            raise ValueError("Relativistic.generator needs the logits of real images: call generator(fake, real)")
        return F.softplus(-_differences(fake, real)).mean()

    def discriminator(self, real: Float[Tensor, "b ..."], fake: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
        return F.softplus(-_differences(real, fake)).mean()


def _differences(first: Float[Tensor, "b ..."], second: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """Differences of the logits of each pair.

    Raises:
        ValueError: The numbers of logits differ.
    """
    if first.shape[0] != second.shape[0] or first.numel() != second.numel():
        shapes = f"{list(first.shape)} and {list(second.shape)}"
        raise ValueError(f"Relativistic pairs real and generated images, but the logits have shapes {shapes}")
    return first - second.reshape(first.shape)
