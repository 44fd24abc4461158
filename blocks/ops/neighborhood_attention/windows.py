"""Which pixels a pixel attends to; the rule holds for each axis by itself.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1; dilated: DiNAT, https://arxiv.org/abs/2209.15001.

A dilation of d cuts an axis into d groups, the pixels i with equal i mod d; attention never leaves a group. There a
pixel sees the K members around it, and near an end of the group the K members nearest to that end: the window is pushed
inwards, so that it never holds fewer than K pixels and needs no padding.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def window_starts(
    length: int, kernel_size: int, dilation: int, device: torch.device
) -> tuple[Int[Tensor, " l"], Int[Tensor, " l"], Int[Tensor, " l"]]:
    """Of each pixel of an axis: its group, its place in the group, and the place where its window starts.

    Raises:
        ValueError: The window is even, or longer than the axis.
    """
    if kernel_size % 2 == 0:
        raise ValueError(f"a neighborhood of {kernel_size} pixels has no centre; kernel_size should be odd")
    if kernel_size * dilation > length:
        raise ValueError(f"a neighborhood of {dilation} x {kernel_size} does not fit on {length} pixels")
    pixel = torch.arange(length, device=device)
    group, place = pixel % dilation, pixel // dilation
    members = (length - group + dilation - 1) // dilation
    start = torch.minimum((place - kernel_size // 2).clamp(min=0), members - kernel_size)
    return group, place, start


def neighbors(
    length: int, kernel_size: int, dilation: int, device: torch.device
) -> tuple[Int[Tensor, "l k"], Int[Tensor, "l k"]]:
    """The K pixels that each pixel of an axis sees, and where each stands on an axis of the bias table."""
    group, place, start = window_starts(length, kernel_size, dilation, device)
    seen = start[:, None] + torch.arange(kernel_size, device=device)
    return group[:, None] + dilation * seen, seen - place[:, None] + kernel_size - 1


def pairs(
    length: int, kernel_size: int, dilation: int, device: torch.device
) -> tuple[Bool[Tensor, "l l"], Int[Tensor, "l l"]]:
    """For each pair of pixels of an axis: whether the first sees the second, and where that stands in the bias table.

    The second is meaningless, though a valid index, where the first is false.
    """
    group, place, start = window_starts(length, kernel_size, dilation, device)
    after_start = place - start[:, None]
    visible = (group == group[:, None]) & (after_start >= 0) & (after_start < kernel_size)
    return visible, (place - place[:, None] + kernel_size - 1).clamp(0, 2 * kernel_size - 2)
