"""Balanced consistency: the discriminator shall judge an image, real or generated, as it judges its augmented copy.

bCR, Zhao et al. 2020, https://arxiv.org/abs/2002.04724, section 3.1. StyleNAT and ViTGAN's paper compare with the image
itself, ViTGAN's code two augmented copies.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from blocks.common.value_range import from_symmetric, to_symmetric
from blocks.families import Augment, Batch, Networks, Regularizer
from blocks.regularizer.fakes import fakes
from registry import Slot

Weight = Annotated[float, Field(ge=0)]


class BalancedConsistency(Regularizer, kind="bcr"):
    """lambda_real (D(T(x)) - D(x))^2 + lambda_fake (D(T(g)) - D(g))^2, means over all logits, gradients through both.

    T is the regularizer's own augmentation. With `every` = 1 the batch carries logits of the main loss. They are used,
    at half the cost, where they are of a view that is wanted: of the clean image if the GAN has no augmentation, of an
    augmented copy if the GAN's augmentation is the same as this one. Otherwise D is asked again.

    Args:
        lambda_real: Weight for real images.
        lambda_fake: Weight for generated images; 0 is plain consistency, CR.
        view: What an augmented copy is compared with: "clean", the image as it is; "two-views", another augmented copy.
        augment: How copies are augmented.
    """

    side = "discriminator"
    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"lambda_fake": 5.0, "view": "two-views"}},)

    def __init__(
        self,
        *,
        lambda_real: Weight = 10.0,
        lambda_fake: Weight = 10.0,
        view: Literal["clean", "two-views"] = "clean",
        augment: Slot[Augment] = "diffaugment",
    ) -> None:
        super().__init__()
        self.lambda_real, self.lambda_fake, self.view = lambda_real, lambda_fake, view
        self.augment = self.fill("augment", augment)

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        assert batch.real is not None, "balanced consistency looks at real images"
        total = batch.real.new_zeros(())
        if self.lambda_real:
            total = total + self.lambda_real * self.difference(networks, batch.real, batch.c, batch.real_logits)
        if self.lambda_fake:
            fake = fakes(networks, batch)
            total = total + self.lambda_fake * self.difference(networks, fake, batch.c, batch.fake_logits)
        return total

    def difference(
        self, networks: Networks, image: Float[Tensor, "b k h w"], c: Tensor | None, logits: Tensor | None
    ) -> Float[Tensor, ""]:
        """The squared difference of D at `image` and at its copy; `logits` are those of the main loss."""
        seen = None if logits is None else self.seen(networks)
        if logits is None or seen is None or (seen == "clean" and self.view == "two-views"):
            seen, logits = "augmented", networks.discriminator(self.copy_of(image, networks), c)
        other = image if self.view == "clean" and seen == "augmented" else self.copy_of(image, networks)
        return (networks.discriminator(other, c) - logits).square().mean()

    def copy_of(self, image: Float[Tensor, "b k h w"], networks: Networks) -> Float[Tensor, "b k h w"]:
        """The image augmented, which is done in [-1,1]."""
        copy = self.augment(to_symmetric(image, networks.value_range))
        return from_symmetric(copy, networks.value_range)

    def seen(self, networks: Networks) -> Literal["clean", "augmented"] | None:
        """What the main loss has judged: clean images, such copies as this makes, or others."""
        if isinstance(networks.augment, nn.Identity):
            return "clean"
        return "augmented" if getattr(networks.augment, "spec", None) == self.augment.spec else None
