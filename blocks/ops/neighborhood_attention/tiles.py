"""Tiles of queries, each with the surrounding keys that its windows can reach.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1; dilated: DiNAT, https://arxiv.org/abs/2209.15001.

Each dilation group is a map of its own. The lengths of groups differ by one at most, so each axis has at most two
lengths. All tiles of an axis have the same size: T queries, and T + K - 1 keys that begin K // 2 before the first
query. Windows shifted inwards at an end still lie among these keys if the tile has more than K // 2 queries inside the
map. Tiles may therefore begin before the map and end after it; the pixels outside are masked. A short axis is one tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops.attention import relative_bias
from blocks.ops.neighborhood_attention.windows import check_window, window_starts

SMALLEST_TILE = 4  # smaller tiles waste fewer keys, but their matrices are too small for fast products


class Axis(NamedTuple):
    """One axis of a map, divided into tiles.

    Fields:
        length: Pixels of the map.
        tile: Queries per tile.
        num_tiles: Number of tiles.
        before: Pixels of the first tile that lie before the map.
        reach: Keys of a tile before its first query.
        span: Keys per tile.
    """

    length: int
    tile: int
    num_tiles: int
    before: int
    reach: int
    span: int

    @property
    def padded(self) -> int:
        """Pixels of all tiles together."""
        return self.num_tiles * self.tile


def tile_axis(length: int, kernel_size: int) -> Axis:
    """The division of an axis that compares the fewest pairs of pixels."""
    reach = kernel_size // 2
    best = Axis(length, length, 1, 0, 0, length)
    for tile in range(max(reach + 1, min(SMALLEST_TILE, kernel_size + 1)), kernel_size + SMALLEST_TILE):
        num_tiles = -(-length // tile)
        outside = num_tiles * tile - length
        fits = num_tiles > 1 and outside <= 2 * (tile - reach - 1)
        axis = Axis(length, tile, num_tiles, outside // 2, reach, tile + kernel_size - 1)
        if fits and axis.padded * axis.span < best.padded * best.span:
            best = axis
    return best


def check_map(height: int, width: int, kernel_size: int, dilation: int) -> None:
    """Check that a window fits on a map.

    Raises:
        ValueError: The window is even, or larger than the map.
    """
    for length in (height, width):
        check_window(length, kernel_size, dilation)


def dilation_groups(length: int, dilation: int) -> Iterator[tuple[slice, int]]:
    """The dilation groups of an axis with their length: first the longer ones, if any, then the shorter ones."""
    shorter, num_longer = length // dilation, length % dilation
    if num_longer:
        yield slice(0, num_longer), shorter + 1
    yield slice(num_longer, dilation), shorter


def group_maps(x: Float[Tensor, "b h w n d"], rows: slice, columns: slice, dilation: int) -> Float[Tensor, ...]:
    """A view of some dilation groups as maps: [B, row groups, column groups, heads, height, width, head_dim]."""
    for axis, chosen in ((1, rows), (2, columns)):
        x = x[(slice(None),) * axis + (slice(chosen.start, None),)].unfold(axis, chosen.stop - chosen.start, dilation)
    return x.permute(0, 5, 6, 3, 1, 2, 4)


def visibility(axis: Axis, kernel_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Whether each query of a tile attends to each key [tiles,T,span], and the index in the bias table [T,span].

    Queries outside the map attend to all keys, so that their softmax is defined; its result is discarded.
    """
    _, _, start = window_starts(axis.length, kernel_size, 1, device)
    query = torch.arange(axis.padded, device=device).view(axis.num_tiles, axis.tile) - axis.before
    key = query[:, :1] - axis.reach + torch.arange(axis.span, device=device)
    first = start[query.clamp(0, axis.length - 1)][..., None]
    inside = ((query >= 0) & (query < axis.length))[..., None]
    visible = (key[:, None] >= first) & (key[:, None] < first + kernel_size) | ~inside
    distance = torch.arange(axis.span, device=device) - axis.reach - torch.arange(axis.tile, device=device)[:, None]
    return visible, (distance + kernel_size - 1).clamp(0, 2 * kernel_size - 2)


class Mask(NamedTuple):
    """What is added to the logits (bias, or minus infinity outside the window), and its exponentials."""

    logits: Float[Tensor, "n rows tt ss"]
    factors: Float[Tensor, "n rows tt ss"]


def column_masks(
    rows: Axis, columns: Axis, kernel_size: int, bias: Tensor | None, dtype: torch.dtype, device: torch.device
) -> list[tuple[Mask, int, int]]:
    """The masks of the columns of tiles, each with the first column that it holds for and one past the last.

    There are at most three: for the first column, for the last, and for all columns between.
    """
    visible_rows, table_rows = visibility(rows, kernel_size, device)
    visible_columns, table_columns = visibility(columns, kernel_size, device)
    table = torch.zeros(1, 1, 1, dtype=dtype, device=device)
    if bias is not None:
        table = relative_bias(bias.to(dtype), table_rows, table_columns)
    factors = table.exp()  # before masking: exponentials of infinity are slow
    last = columns.num_tiles - 1
    masks = []
    for first, stop in ((0, 1), (1, last), (max(1, last), columns.num_tiles)):
        if first < stop:
            visible = visible_rows[:, :, None, :, None] & visible_columns[first, :, None, :]
            hidden = ~visible.flatten(3).flatten(1, 2)  # rows tt ss
            logits = table[:, None].masked_fill(hidden, -math.inf)
            masks.append((Mask(logits, factors[:, None].masked_fill(hidden, 0)), first, stop))
    return masks


def bias_gradient(
    gradient: Float[Tensor, "n tt ss"], rows: Axis, columns: Axis, kernel_size: int
) -> Float[Tensor, "n r r"]:
    """The gradient of the bias table from the gradient of the logits, summed over tiles."""
    side = 2 * kernel_size - 1
    (_, table_rows), (_, table_columns) = (visibility(axis, kernel_size, gradient.device) for axis in (rows, columns))
    index = table_rows[:, None, :, None] * side + table_columns[None, :, None, :]
    sums = gradient.new_zeros(gradient.shape[0], side * side)
    return sums.index_add_(1, index.flatten(), gradient.flatten(1)).view(-1, side, side)
