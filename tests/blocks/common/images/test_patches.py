"""Patches of pixels as an image, and back."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from blocks.common.images.patches import image_to_patches, patches_to_image
from blocks.families import to_nchw, to_nhwc
from tests.tensors import normal


def test_it_is_pixel_shuffle() -> None:
    patches = normal(2, 3, 4, 12)
    image = patches_to_image(patches, 2)
    assert torch.equal(image, F.pixel_shuffle(to_nchw(patches), 2))
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(image_to_patches(image, 2), to_nhwc(F.pixel_unshuffle(image, 2)))
    assert torch.equal(image_to_patches(image, 2), patches)


def test_an_empty_batch_has_gradients() -> None:
    patches = torch.zeros(0, 3, 4, 12, requires_grad=True)
    image_to_patches(patches_to_image(patches, 2), 2).sum().backward()
    assert patches.grad is not None
