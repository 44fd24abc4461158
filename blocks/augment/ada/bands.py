"""Amplification of frequency bands of an image.

StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676, appendix B, image-space filtering.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.common.computed_buffer import filled

POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # expected share of an image's power in each band


def amplify_bands(
    image: Float[Tensor, "b k h w"], log_gains: Float[Tensor, "b n"], bank: Float[Tensor, "n taps"]
) -> Float[Tensor, "b k h w"]:
    """Filters each image along both axes, with reflection padding; its expected power is preserved.

    Args:
        image: Images.
        log_gains: Binary logarithm of the gain of each band.
        bank: Symmetric filters of the bands, which sum to the identity.
    """
    power = filled(POWER, image)
    gains = torch.ones_like(log_gains)
    for band in range(log_gains.shape[1]):
        gain = torch.ones_like(log_gains)
        gain[:, band] = torch.exp2(log_gains[:, band])
        gains = gains * gain / (power * gain.square()).sum(dim=1, keepdim=True).sqrt()
    taps = gains @ bank.to(image.dtype)
    rows, columns = (filter_matrix(taps, size)[:, None] for size in image.shape[2:])
    return rows @ image @ columns.mT


def filter_matrix(taps: Float[Tensor, "b taps"], size: int) -> Float[Tensor, "b o i"]:
    """Each filter as the matrix of its convolution along an axis of `size` pixels with repeated reflection padding."""
    length = taps.shape[1]
    pixels = torch.arange(size, device=taps.device)
    source = pixels[:, None] + torch.arange(length, device=taps.device) - length // 2
    period = max(1, 2 * (size - 1))
    source = source % period
    source = torch.minimum(source, period - source) if size > 1 else source * 0
    batch = taps.shape[0]
    matrix = taps.new_zeros(batch, size, size)
    return matrix.scatter_add(2, source.expand(batch, -1, -1), taps[:, None].expand(-1, size, -1))
