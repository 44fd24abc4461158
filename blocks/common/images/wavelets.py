"""The Haar wavelet transform: averages and differences of each 2x2 pixels of an image, at half its resolution.

SWAGAN, Gal et al. 2021, https://arxiv.org/abs/2102.06108, section 3.1; in StyleSwin's discriminator, Zhang et al. 2021,
https://arxiv.org/abs/2112.10762, section 3.5, and in StyleNAT's.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.common.images.patches import patches_to_image
from blocks.families import to_nhwc


def haar(image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b 4*k h//2 w//2"]:
    """The bands LL, LH (top minus bottom), HL (left minus right) and HH, each with all channels. Orthonormal."""
    if image.shape[-2] % 2 or image.shape[-1] % 2:
        raise ValueError(
            f"haar: {image.shape[-2]}x{image.shape[-1]} pixels do not split into 2x2; pad or crop to even sides"
        )
    top, bottom = image[..., ::2, :] / 2, image[..., 1::2, :] / 2
    total, across = top + bottom, top - bottom
    low, low_across = total[..., ::2], across[..., ::2]
    right, right_across = total[..., 1::2], across[..., 1::2]
    return torch.cat([low + right, low_across + right_across, low - right, low_across - right_across], dim=1)


def inverse_haar(bands: Float[Tensor, "b 4*k h w"]) -> Float[Tensor, "b k 2*h 2*w"]:
    """The image whose bands these are."""
    ll, lh, hl, hh = (bands / 2).chunk(4, dim=1)
    top, top_across = ll + lh, hl + hh
    bottom, bottom_across = ll - lh, hl - hh
    pixels = torch.stack([top + top_across, top - top_across, bottom + bottom_across, bottom - bottom_across], dim=2)
    return patches_to_image(to_nhwc(pixels.flatten(1, 2)), 2)
