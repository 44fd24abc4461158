"""Columns of tiles as batches of matrices, without gathering.

The keys of a column of tiles are copied into a strip that is as wide as a tile's span. In a strip the keys of a tile
are contiguous and overlap with those of the next tile, so a strided view is a batch of matrices: one product serves all
tiles of several columns, heads, dilation groups and images. They are stored one below the other in the strip. Keys that
a tile reaches beyond the end of its map belong to its neighbour in the strip and have to be masked.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops.neighborhood_attention.tiles import Axis

Maps = Float[Tensor, "b gy gx n h w d"]


class Strips:
    """Buffers for a number of adjacent columns of tiles.

    Args:
        count: Number of columns of tiles.
        rows: The tiles of the maps' height.
        columns: The tiles of the maps' width.
        x: Queries, keys or values of the maps.
        dtype: Dtype of the buffers.
    """

    def __init__(self, count: int, rows: Axis, columns: Axis, x: Maps, dtype: torch.dtype) -> None:
        self.rows, self.columns, self.dim = rows, columns, x.shape[-1]
        self.maps = (count, *x.shape[:4])
        self.num_tiles = math.prod(self.maps) * rows.num_tiles
        self.new_zeros = torch.empty(0, dtype=dtype, device=x.device).new_zeros
        self.area, self.window = rows.tile * columns.tile, rows.span * columns.span
        self.step = rows.tile * columns.span * self.dim

    def queries(self) -> tuple[Tensor, Float[Tensor, "tiles area d"]]:
        """A strip of queries: as maps, and as one matrix per tile."""
        strip = self.new_zeros(*self.maps, self.rows.padded, self.columns.tile, self.dim)
        return self.crop(strip), strip.view(self.num_tiles, self.area, self.dim)

    def keys(self) -> tuple[Tensor, Float[Tensor, "tiles window d"]]:
        """A strip of keys: as maps, and as one matrix per tile."""
        end = self.rows.reach * self.columns.span * self.dim
        strip = self.new_zeros(self.num_tiles * self.step + 2 * end)
        inner = strip[end : end + self.num_tiles * self.step]
        maps = inner.view(*self.maps, self.rows.padded, self.columns.span, self.dim)
        matrices = strip.as_strided((self.num_tiles, self.window, self.dim), (self.step, self.dim, 1))
        return self.crop(maps), matrices

    def weights(self) -> Float[Tensor, "tiles area window"]:
        """An uninitialised value for each query and each key of its tile."""
        return self.new_zeros(0).new_empty(self.num_tiles, self.area, self.window)

    def crop(self, strip: Tensor) -> Tensor:
        """The rows of a strip that lie inside the map."""
        return strip.narrow(-3, self.rows.before, self.rows.length)

    def load(self, x: Maps, strip: Tensor, first: int) -> None:
        """Fill a strip from the map, starting with column `first` of the tiles."""
        source, target = self.overlap(x, strip, first)
        if target.shape != strip.shape:
            strip.zero_()
        target.copy_(source)

    def overlap(self, x: Maps, strip: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """The same pixels as views of the map and of the strip, starting with column `first` of the tiles."""
        width = strip.shape[-2]
        start, stop = self.bounds(first, width)
        if self.maps[0] > 1:  # none of the columns is at an end of the map
            stop += (self.maps[0] - 1) * self.columns.tile
            return x[..., start:stop, :].unfold(-2, width, self.columns.tile).permute(5, 0, 1, 2, 3, 4, 7, 6), strip
        inside = slice(max(start, 0), min(stop, self.columns.length))
        return x[None, ..., inside, :], strip[..., inside.start - start : inside.stop - start, :]

    def bounds(self, column: int, width: int) -> tuple[int, int]:
        """First pixel of a column of tiles and one past its last; they may lie outside the map."""
        reach = self.columns.reach if width == self.columns.span else 0
        start = column * self.columns.tile - self.columns.before - reach
        return start, start + width

    def add(self, windows: Float[Tensor, "tiles window d"], x: Maps, first: int) -> None:
        """Add the values of each tile's keys to the map; keys of several tiles get the sum."""
        width = self.columns.span
        end = self.rows.reach * width * self.dim
        strip = self.new_zeros(self.num_tiles * self.step + 2 * end)
        windows = windows.view(self.num_tiles, -1)
        for start in range(0, windows.shape[1], self.step):  # slices of the windows that do not overlap
            part = windows[:, start : start + self.step]
            strip.as_strided(part.shape, (self.step, 1), start).add_(part)
        maps = strip[end : end + self.num_tiles * self.step].view(*self.maps, self.rows.padded, width, self.dim)
        for column, strip in enumerate(self.crop(maps), first):  # adjacent columns share keys: one after the other
            start, stop = self.bounds(column, width)
            inside = slice(max(start, 0), min(stop, self.columns.length))
            x[..., inside, :].add_(strip[..., inside.start - start : inside.stop - start, :])
