"""Several levels of an image, each with noise of its own strength, on one path of noise from fine to coarse.

GAT, https://arxiv.org/abs/2509.24935: the discriminator's multi-level noise.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.common.computed_buffer import filled


def noise_levels(num_levels: int, min_info: float, shift: float) -> list[float]:
    """The share t of noise of each level, coarsest first: 1 - min_info^(1 - k/(n-1)) + shift."""
    return [1 - min_info ** (1 - level / (num_levels - 1)) + shift for level in range(num_levels)]


def add_noise(
    levels: Float[Tensor, "n b k h w"], noise: Float[Tensor, "n b k h w"], shares: list[float]
) -> Float[Tensor, "n b k h w"]:
    """(1 - t) x + noise for each level."""
    rest = filled([1 - share for share in shares], levels)
    return levels * rest.view(-1, 1, 1, 1, 1) + noise


def noise_path(draws: Float[Tensor, "n b k h w"], shares: list[float]) -> Float[Tensor, "n b k h w"]:
    """Noise of standard deviation t for each level: from the finest on, each is part of the next coarser one.

    Args:
        draws: N(0,1); draws[0] belongs to the finest level, which is the last.
        shares: t of each level, coarsest first.
    """
    noise = [shares[-1] * draws[0]]
    for number, (fine, coarse) in enumerate(pairwise(reversed(shares)), start=1):
        kept = (1 - coarse) / (1 - fine)
        noise.append(kept * noise[-1] + math.sqrt(coarse**2 - (kept * fine) ** 2) * draws[number])
    return torch.stack(noise[::-1])
