"""Rearranges patches of pixels to an image and back.

As pixel shuffle, Shi et al. 2016, https://arxiv.org/abs/1609.05158; torch's functions fail in the backward pass of an
empty batch.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from blocks.families import to_nchw, to_nhwc


def patches_to_image(patches: Float[Tensor, "b h w c"], size: int) -> Float[Tensor, "b k i j"]:
    """Patches of `size` x `size` pixels as an image; features of a patch are in the order (channel, row, column)."""
    batch, rows, columns, features = patches.shape
    pixels = patches.reshape(batch, rows, columns, features // size**2, size, size).permute(0, 1, 4, 2, 5, 3)
    return to_nchw(pixels.reshape(batch, rows * size, columns * size, features // size**2))


def image_to_patches(image: Float[Tensor, "b k i j"], size: int) -> Float[Tensor, "b h w c"]:
    """The inverse of `patches_to_image`."""
    batch, channels, height, width = image.shape
    pixels = to_nhwc(image).reshape(batch, height // size, size, width // size, size, channels)
    return pixels.permute(0, 1, 3, 5, 2, 4).reshape(batch, height // size, width // size, channels * size**2)
