"""Symlets, nearly symmetric wavelets, and a filter bank that splits an image into four frequency bands.

Daubechies 1992, Ten Lectures on Wavelets, https://doi.org/10.1137/1.9781611970104, section 8.1; the bank:
StyleGAN2-ADA, Karras et al. 2020, https://arxiv.org/abs/2006.06676, appendix B.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
NUM_BANDS = 4


def filter_bank() -> Float[Tensor, "4 taps"]:
    """Filters of the bands [0,1/8], [1/8,1/4], [1/4,1/2], [1/2,1] of the Nyquist frequency; they sum to the identity.

    Each level splits the lowest band in two with the autocorrelation of SYM2, dilated by 2^level.
    """
    taps = torch.tensor(SYM2, dtype=torch.float64)
    lower = convolve(taps, taps.flip(0)) / 2
    identity = torch.zeros_like(lower)
    identity[len(lower) // 2] = 1
    lowest, bands = torch.ones(1, dtype=torch.float64), []
    for level in range(NUM_BANDS - 1):
        bands.append(convolve(lowest, dilate(identity - lower, 2**level)))
        lowest = convolve(lowest, dilate(lower, 2**level))
    bands.append(lowest)
    centred = [torch.nn.functional.pad(band, [(len(lowest) - len(band)) // 2] * 2) for band in reversed(bands)]
    return torch.stack(centred).float()


def dilate(taps: Float[Tensor, " n"], step: int) -> Float[Tensor, " m"]:
    """Inserts step - 1 zeros between the taps."""
    dilated = taps.new_zeros((len(taps) - 1) * step + 1)
    dilated[::step] = taps
    return dilated


def convolve(first: Float[Tensor, " n"], second: Float[Tensor, " m"]) -> Float[Tensor, " l"]:
    """Full convolution of two filters."""
    product = torch.zeros(len(first) + len(second) - 1, dtype=first.dtype)
    for index, tap in enumerate(first):
        product[index : index + len(second)] += tap * second
    return product
