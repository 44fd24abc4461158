"""A map cut into tiles of queries, each with the keys around it that its windows can reach.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1 has the windows; dilated: DiNAT,
https://arxiv.org/abs/2209.15001.

Every dilation group is a map of its own, and groups differ in length by one at most, so that there are at most two
lengths on each axis. Tiles of an axis are all alike: T queries, and T + K - 1 keys that begin K // 2 before the first.
Windows pushed inwards at an end still lie among these keys if the tile has more than K // 2 queries of the map, which
is why tiles may begin before the map and end behind it: what lies outside is masked. A short axis is one tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops.attention import relative_bias
from blocks.ops.neighborhood_attention.windows import window_starts

SMALLEST_TILE = 4  # fewer queries waste fewer keys, and then the matrices are too small to be multiplied fast


class Axis(NamedTuple):
    """One axis of a map, cut into tiles.

    Fields:
        length: Pixels of the map.
        tile: Queries of a tile.
        number: Tiles.
        before: Pixels of the first tile that stand before the map.
        reach: Keys of a tile before its first query.
        span: Keys of a tile.
    """

    length: int
    tile: int
    number: int
    before: int
    reach: int
    span: int

    @property
    def padded(self) -> int:
        """Pixels of all tiles together."""
        return self.number * self.tile


def cut(length: int, kernel_size: int, smallest: int = SMALLEST_TILE) -> Axis:
    """The tiles of an axis that compare the fewest pairs of pixels."""
    reach = kernel_size // 2
    best = Axis(length, length, 1, 0, 0, length)
    for tile in range(max(reach + 1, min(smallest, kernel_size + 1)), kernel_size + smallest):
        count = -(-length // tile)
        outside = count * tile - length
        fits = count > 1 and outside <= 2 * (tile - reach - 1)
        axis = Axis(length, tile, count, outside // 2, reach, tile + kernel_size - 1)
        if fits and axis.padded * axis.span < best.padded * best.span:
            best = axis
    return best


def check(height: int, width: int, kernel_size: int, dilation: int) -> None:
    """Refuse windows that do not fit.

    Raises:
        ValueError: The window is even, or larger than the map.
    """
    for length in (height, width):
        if kernel_size % 2 == 0:
            raise ValueError(f"a neighborhood of {kernel_size} pixels has no centre; kernel_size should be odd")
        if kernel_size * dilation > length:
            raise ValueError(f"a neighborhood of {dilation} x {kernel_size} does not fit on {length} pixels")


def groups(length: int, dilation: int) -> Iterator[tuple[slice, int]]:
    """The dilation groups of an axis, the longer ones apart from the shorter: which they are, and their length."""
    shorter, longer = length // dilation, length % dilation
    if longer:
        yield slice(0, longer), shorter + 1
    yield slice(longer, dilation), shorter


def submaps(x: Float[Tensor, "b h w n d"], rows: slice, columns: slice, dilation: int) -> Tensor:
    """A view of some groups as maps: batch, group of rows, group of columns, heads, height, width, head_dim."""
    for axis, chosen in ((1, rows), (2, columns)):
        x = x[(slice(None),) * axis + (slice(chosen.start, None),)].unfold(axis, chosen.stop - chosen.start, dilation)
    return x.permute(0, 5, 6, 3, 1, 2, 4)


def relations(axis: Axis, kernel_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of each tile whether its queries see its keys [count, tile, span], and of all where that stands in the table.

    Queries outside the map see all keys: their softmax should exist, since what it gives is thrown away.
    """
    _, _, start = window_starts(axis.length, kernel_size, 1, device)
    query = torch.arange(axis.padded, device=device).view(axis.number, axis.tile) - axis.before
    key = query[:, :1] - axis.reach + torch.arange(axis.span, device=device)
    first = start[query.clamp(0, axis.length - 1)][..., None]
    inside = ((query >= 0) & (query < axis.length))[..., None]
    visible = (key[:, None] >= first) & (key[:, None] < first + kernel_size) | ~inside
    distance = torch.arange(axis.span, device=device) - axis.reach - torch.arange(axis.tile, device=device)[:, None]
    return visible, (distance + kernel_size - 1).clamp(0, 2 * kernel_size - 2)


class Table(NamedTuple):
    """What is added to the logits, minus infinity where a query does not see a key, and its exponentials."""

    logits: Float[Tensor, "n rows tt ss"]
    factors: Float[Tensor, "n rows tt ss"]


def tables(
    rows: Axis, columns: Axis, kernel_size: int, bias: Tensor | None, dtype: torch.dtype, device: torch.device
) -> list[tuple[Table, int, int]]:
    """A table for each kind of columns of tiles, its first column, and the column behind its last.

    There are at most three kinds: the first column, the last, and those between.
    """
    see_rows, row_places = relations(rows, kernel_size, device)
    see_columns, column_places = relations(columns, kernel_size, device)
    table = torch.zeros(1, 1, 1, dtype=dtype, device=device)
    if bias is not None:
        table = relative_bias(bias.to(dtype), row_places, column_places)
    factors = table.exp()  # before it is masked: exponentials of infinity are slow
    kinds = []
    for first, stop in ((0, 1), (1, columns.number - 1), (max(1, columns.number - 1), columns.number)):
        if first < stop:
            visible = see_rows[:, :, None, :, None] & see_columns[first, :, None, :]
            hidden = ~visible.flatten(3).flatten(1, 2)  # row_tiles queries keys
            logits = table[:, None].masked_fill(hidden, -math.inf)
            kinds.append((Table(logits, factors[:, None].masked_fill(hidden, 0)), first, stop))
    return kinds


def table_gradient(
    gradient: Float[Tensor, "n tt ss"], rows: Axis, columns: Axis, kernel_size: int
) -> Float[Tensor, "n r r"]:
    """The gradient of the bias, from that of the logits summed over tiles."""
    side = 2 * kernel_size - 1
    (_, row_places), (_, column_places) = (relations(axis, kernel_size, gradient.device) for axis in (rows, columns))
    places = row_places[:, None, :, None] * side + column_places[None, :, None, :]
    sums = gradient.new_zeros(len(gradient), side * side)
    return sums.index_add_(1, places.flatten(), gradient.flatten(1)).view(-1, side, side)
