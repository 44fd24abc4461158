"""Balanced consistency regularisation: an image, real or generated, and its augmented copy should have equal logits.

bCR, Zhao et al. 2020, https://arxiv.org/abs/2002.04724, section 3.1. StyleNAT and ViTGAN's paper compare with the image
itself, ViTGAN's code compares two augmented copies.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from blocks.common.images.value_range import in_symmetric
from blocks.families import Augment, Batch, Networks, Regularizer
from blocks.regularizer.fake_images import fake_images
from registry import Slot

Weight = Annotated[float, Field(ge=0)]


class BalancedConsistency(Regularizer, kind="bcr"):
    """lambda_real (D(T(x)) - D(x))^2 + lambda_fake (D(T(g)) - D(g))^2, means over all logits, gradients through both.

    T is always the regularizer's own augmentation. With `every` = 1 the logits of the main loss replace one of the two
    evaluations of D if they are of a view that is needed: of the clean image if the GAN has no augmentation, or of an
    augmented copy if the GAN's augmentation has the same spec and range as T.

    Args:
        lambda_real: Weight for real images.
        lambda_fake: Weight for generated images; 0 is plain consistency regularisation, CR.
        view: What an augmented copy is compared with: "clean", the image itself; "two-views", another augmented copy.
        augment: Augmentation T of the copies. An adaptive one adapts to the logits of the main loss.
        augment_range: Range in which T is applied. "symmetric" converts images to [-1,1] for it; "generator" applies it
            to images in the generator's range, as StyleNAT does to normalised images.
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
        augment_range: Literal["symmetric", "generator"] = "symmetric",
    ) -> None:
        super().__init__()
        self.lambda_real, self.lambda_fake, self.view = lambda_real, lambda_fake, view
        self.augment = self.fill("augment", augment)
        self.augment_range = augment_range

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        assert batch.real is not None, "balanced consistency needs real images"
        total = batch.real.new_zeros(())
        if self.lambda_real:
            total = total + self.lambda_real * self.difference(networks, batch.real, batch.c, batch.real_logits)
        if self.lambda_fake:
            fake = fake_images(networks, batch)
            total = total + self.lambda_fake * self.difference(networks, fake, batch.c, batch.fake_logits)
        return total

    def difference(
        self, networks: Networks, image: Float[Tensor, "b k h w"], c: Tensor | None, logits: Tensor | None
    ) -> Float[Tensor, ""]:
        """Mean squared difference between D at `image` and at its copy; `logits` are those of the main loss."""
        view = None if logits is None else self.main_view(networks)
        if logits is None or view is None or (view == "clean" and self.view == "two-views"):
            view, logits = "augmented", networks.discriminator(self.augmented(image, networks), c)
        other = image if self.view == "clean" and view == "augmented" else self.augmented(image, networks)
        return (networks.discriminator(other, c) - logits).square().mean()

    def augmented(self, image: Float[Tensor, "b k h w"], networks: Networks) -> Float[Tensor, "b k h w"]:
        """An augmented copy, in the generator's range as `image`."""
        return in_symmetric(self.augment, image, self.converted_range(networks))

    def converted_range(self, networks: Networks) -> str:
        """Range that images are converted from before T; "symmetric" converts nothing."""
        return networks.value_range if self.augment_range == "symmetric" else "symmetric"

    def main_view(self, networks: Networks) -> Literal["clean", "augmented"] | None:
        """View of the main loss: clean images, copies augmented as by T, or None for other ones."""
        if isinstance(networks.augment, nn.Identity):
            return "clean"
        same = getattr(networks.augment, "spec", None) == self.augment.spec
        return "augmented" if same and self.converted_range(networks) == networks.value_range else None
