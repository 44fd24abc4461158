"""The window of each pixel, one axis at a time.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1; dilated: DiNAT, https://arxiv.org/abs/2209.15001.

A dilation of d splits an axis into d groups: group g has the pixels i with i mod d = g. Attention stays within a group.
There a pixel attends to the K members around it. Near an end of the group the window is shifted inwards, so that it
always has K members and needs no padding.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

WINDOW = "int kernel_size, int dilation, float scale"
ARGUMENTS = f"Tensor q, Tensor k, Tensor v, Tensor? bias, {WINDOW}"  # in the schemas of operators


def check_window(length: int, kernel_size: int, dilation: int) -> None:
    """Check that a window fits on an axis.

    Raises:
        ValueError: The window is even, or longer than the axis.
    """
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size {kernel_size} is even: a window needs a centre pixel; use an odd kernel_size")
    if kernel_size * dilation > length:
        raise ValueError(
            f"a dilated window of {dilation} x {kernel_size} does not fit on {length} pixels; "
            f"use a smaller kernel_size or dilation"
        )


def window_starts(
    length: int, kernel_size: int, dilation: int, device: torch.device
) -> tuple[Int[Tensor, " l"], Int[Tensor, " l"], Int[Tensor, " l"]]:
    """Group of each pixel of an axis, its index in the group, and the index where its window starts.

    Raises:
        ValueError: The window is even, or longer than the axis.
    """
    check_window(length, kernel_size, dilation)
    pixel = torch.arange(length, device=device)
    group, index = pixel % dilation, pixel // dilation
    members = (length - group + dilation - 1) // dilation
    start = torch.minimum((index - kernel_size // 2).clamp(min=0), members - kernel_size)
    return group, index, start


def neighbors(
    length: int, kernel_size: int, dilation: int, device: torch.device
) -> tuple[Int[Tensor, "l k"], Int[Tensor, "l k"]]:
    """The K pixels that each pixel of an axis attends to, and the index of each on an axis of the bias table."""
    group, index, start = window_starts(length, kernel_size, dilation, device)
    neighbor = start[:, None] + torch.arange(kernel_size, device=device)
    return group[:, None] + dilation * neighbor, neighbor - index[:, None] + kernel_size - 1


def pairs(
    length: int, kernel_size: int, dilation: int, device: torch.device
) -> tuple[Bool[Tensor, "l l"], Int[Tensor, "l l"]]:
    """For each pair of pixels of an axis: whether the first attends to the second, and the index in the bias table.

    Where the first is false, the second is a valid index without meaning.
    """
    group, index, start = window_starts(length, kernel_size, dilation, device)
    after_start = index - start[:, None]
    visible = (group == group[:, None]) & (after_start >= 0) & (after_start < kernel_size)
    return visible, (index - index[:, None] + kernel_size - 1).clamp(0, 2 * kernel_size - 2)
