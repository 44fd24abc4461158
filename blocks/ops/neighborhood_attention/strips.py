"""Columns of tiles as batches of matrices that need no gathering.

The keys of a column of tiles are copied into a strip as wide as a tile needs. In a strip the keys of a tile are
consecutive, and those of the next tile overlap them, so that a view with the right strides is a batch of matrices: one
product serves all tiles of several columns, heads, dilation groups and images. They lie in the strip below each other.
Keys that a tile reaches beyond the end of its map belong to its neighbour in the strip, and have to be masked.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops.neighborhood_attention.tiles import Axis

Maps = Float[Tensor, "b gy gx n h w d"]


class Strips:
    """So many neighbouring columns of tiles.

    Args:
        count: Columns of tiles.
        rows: The cut of the maps' height.
        columns: The cut of the maps' width.
        x: Queries, keys or values of the maps.
        dtype: Of the copies.
    """

    def __init__(self, count: int, rows: Axis, columns: Axis, x: Maps, dtype: torch.dtype) -> None:
        self.rows, self.columns, self.dim = rows, columns, x.shape[-1]
        self.maps = (count, *x.shape[:4])
        self.tiles = math.prod(self.maps) * rows.number
        self.new = torch.empty(0, dtype=dtype, device=x.device).new_zeros
        self.area, self.window = rows.tile * columns.tile, rows.span * columns.span
        self.step = rows.tile * columns.span * self.dim

    def narrow(self) -> tuple[Tensor, Float[Tensor, "tiles area d"]]:
        """A strip of queries: as maps, and as a matrix for each tile."""
        strip = self.new(*self.maps, self.rows.padded, self.columns.tile, self.dim)
        return self.on_the_map(strip), strip.view(self.tiles, self.area, self.dim)

    def wide(self) -> tuple[Tensor, Float[Tensor, "tiles window d"]]:
        """A strip of keys: as maps, and as a matrix for each tile."""
        end = self.rows.reach * self.columns.span * self.dim
        strip = self.new(self.tiles * self.step + 2 * end)
        maps = strip[end : end + self.tiles * self.step].view(*self.maps, self.rows.padded, self.columns.span, self.dim)
        matrices = strip.as_strided((self.tiles, self.window, self.dim), (self.step, self.dim, 1))
        return self.on_the_map(maps), matrices

    def weights(self) -> Float[Tensor, "tiles area window"]:
        """A number for each query and each key of its tile."""
        return self.new(0).new_empty(self.tiles, self.area, self.window)

    def on_the_map(self, strip: Tensor) -> Tensor:
        return strip.narrow(-3, self.rows.before, self.rows.length)

    def copy(self, x: Maps, strip: Tensor, first: int) -> None:
        """Fill a strip from the map; `first` is the first column of tiles."""
        there, here = self.between(x, strip, first)
        if here.shape != strip.shape:
            strip.zero_()
        here.copy_(there)

    def between(self, x: Maps, strip: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """The pixels of some columns of tiles, on the map and in a strip."""
        width = strip.shape[-2]
        start, stop = self.ends(first, width)
        if self.maps[0] > 1:  # none of them is at an end of the map
            stop += (self.maps[0] - 1) * self.columns.tile
            return x[..., start:stop, :].unfold(-2, width, self.columns.tile).permute(5, 0, 1, 2, 3, 4, 7, 6), strip
        inside = slice(max(start, 0), min(stop, self.columns.length))
        return x[None, ..., inside, :], strip[..., inside.start - start : inside.stop - start, :]

    def ends(self, column: int, width: int) -> tuple[int, int]:
        """Where a column of tiles begins and ends, perhaps beyond the ends of the map."""
        reach = self.columns.reach if width == self.columns.span else 0
        start = column * self.columns.tile - self.columns.before - reach
        return start, start + width

    def add(self, windows: Float[Tensor, "tiles window d"], x: Maps, first: int) -> None:
        """Give each key of the map what the tiles that see it have for it."""
        width = self.columns.span
        end = self.rows.reach * width * self.dim
        strip = self.new(self.tiles * self.step + 2 * end)
        windows = windows.view(self.tiles, -1)
        for start in range(0, windows.shape[1], self.step):  # the parts of all windows that do not overlap
            part = windows[:, start : start + self.step]
            strip.as_strided(part.shape, (self.step, 1), start).add_(part)
        maps = strip[end : end + self.tiles * self.step].view(*self.maps, self.rows.padded, width, self.dim)
        for column, strip in enumerate(self.on_the_map(maps), first):  # neighbours share keys: one after the other
            start, stop = self.ends(column, width)
            inside = slice(max(start, 0), min(stop, self.columns.length))
            x[..., inside, :].add_(strip[..., inside.start - start : inside.stop - start, :])
