"""The augmentations of a GAN: that of the discriminator's images, and those of regularizers."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from assemblies import GAN
from blocks.common.images.value_range import in_symmetric
from blocks.families import Augment


def augmentations(module: nn.Module) -> Iterator[Augment]:
    """All augmentations of a GAN and its regularizers, without the parts of others, which inform their parts."""
    for child in module.children():
        if isinstance(child, Augment):
            yield child
        else:
            yield from augmentations(child)


def augmentation(gan: GAN) -> nn.Module:
    """The augmentation of the discriminator's images, in the generator's value range."""
    if gan.augment is None:
        return nn.Identity()
    value_range = gan.generator.value_range
    return gan.augment if value_range == "symmetric" else AugmentInRange(gan.augment, value_range)


class AugmentInRange(nn.Module):
    """An augmentation, which is defined for [-1,1], of images [B,K,H,W] in another value range."""

    def __init__(self, augment: Augment, value_range: str) -> None:
        super().__init__()
        self.augment = augment
        self.value_range = value_range
        self.spec = augment.spec  # regularizers compare it with their own augmentation's

    def forward(self, images: Tensor) -> Tensor:
        return in_symmetric(self.augment, images, self.value_range)
