"""An image with some bands of its frequencies made louder or softer.

StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676, appendix B, image-space filtering.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # what part of an image's power its bands are expected to have


def amplify_bands(
    image: Float[Tensor, "b k h w"], log_gains: Float[Tensor, "b n"], bank: Float[Tensor, "n taps"]
) -> Float[Tensor, "b k h w"]:
    """Filters each image along both axes; its expected power stays. Outside the image its reflection goes on.

    Args:
        image: The images.
        log_gains: Binary logarithm of the factor of each band.
        bank: The filters of the bands, which add up to none; symmetric.
    """
    power = torch.tensor(POWER, device=image.device, dtype=image.dtype)
    gains = torch.ones_like(log_gains)
    for band in range(log_gains.shape[1]):
        alone = torch.ones_like(log_gains)
        alone[:, band] = torch.exp2(log_gains[:, band])
        gains = gains * alone / (power * alone.square()).sum(dim=1, keepdim=True).sqrt()
    taps = gains @ bank.to(image.dtype)
    rows, columns = (along(taps, size)[:, None] for size in image.shape[2:])
    return rows @ image @ columns.mT


def along(taps: Float[Tensor, "b taps"], size: int) -> Float[Tensor, "b o i"]:
    """The filters as matrices of an axis that is reflected at its ends, as often as need be."""
    length = taps.shape[1]
    pixels = torch.arange(size, device=taps.device)
    seen = pixels[:, None] + torch.arange(length, device=taps.device) - length // 2
    period = max(1, 2 * (size - 1))
    seen = seen % period
    seen = torch.minimum(seen, period - seen) if size > 1 else seen * 0
    matrix = taps.new_zeros(len(taps), size, size)
    return matrix.scatter_add(2, seen.expand(len(taps), -1, -1), taps[:, None].expand(-1, size, -1))
