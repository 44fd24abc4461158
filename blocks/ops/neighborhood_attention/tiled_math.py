"""Neighborhood attention tile by tile, all at once, in operations that can be differentiated as often as one likes.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.ops.attention import relative_bias, softmax
from blocks.ops.neighborhood_attention.tiles import Axis, check, cut, groups, relations
from registry import Kernel

Maps = Float[Tensor, "b gy gx n h w d"]
Tiles = Float[Tensor, "b gy gx n rows columns pixels d"]


class TiledMath(Kernel):
    """Tiles of queries beside the keys that they can see, for gradient penalties on large maps."""

    op = "neighborhood_attention"
    name = "tiled-math"
    priority = 20
    second_order = True

    def unsupported(self, q: Tensor, k: Tensor, v: Tensor, **_: object) -> list[str]:
        return ["what is compiled has one derivative only"] if torch.compiler.is_compiling() else []

    def run(
        self,
        q: Float[Tensor, "b h w n d"],
        k: Float[Tensor, "b h w n d"],
        v: Float[Tensor, "b h w n d"],
        *,
        kernel_size: int,
        dilation: int = 1,
        bias: Float[Tensor, "n r r"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b h w n d"]:
        height, width = q.shape[1:3]
        check(height, width, kernel_size, dilation)
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        q, k, v = (_grouped(x, dilation) for x in (q * scale, k, v))
        longest, broadest = q.shape[4:6]
        bands = []
        for down, length in groups(height, dilation):
            band = []
            for across, breadth in groups(width, dilation):
                rows, columns = cut(length, kernel_size), cut(breadth, kernel_size)
                some_q, some_k, some_v = (x[:, down, across, :, :length, :breadth] for x in (q, k, v))
                y = _attend(some_q, some_k, some_v, rows, columns, kernel_size, bias)
                band.append(F.pad(y, (0, 0, 0, broadest - breadth, 0, longest - length)))
            bands.append(torch.cat(band, 2))
        whole = torch.cat(bands, 1).permute(0, 4, 1, 5, 2, 3, 6)
        return whole.flatten(3, 4).flatten(1, 2)[:, :height, :width]


def _grouped(x: Float[Tensor, "b h w n d"], dilation: int) -> Maps:
    """Each dilation group as a map of its own; the last pixels of the shorter ones mean nothing."""
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, 0, 0, -width % dilation, 0, -height % dilation))
    x = torch.unflatten(torch.unflatten(x, 2, (-1, dilation)), 1, (-1, dilation))
    return x.permute(0, 2, 4, 5, 1, 3, 6)


def _attend(q: Maps, k: Maps, v: Maps, rows: Axis, columns: Axis, kernel_size: int, bias: Tensor | None) -> Maps:
    near_rows, row_places = relations(rows, kernel_size, q.device)
    near_columns, column_places = relations(columns, kernel_size, q.device)
    visible = near_rows[:, None, :, None, :, None] & near_columns[None, :, None, :, None, :]
    visible = visible.flatten(4).flatten(2, 3)  # rows columns queries keys
    table = q.new_zeros(1, 1, 1) if bias is None else relative_bias(bias, row_places, column_places)
    q, k, v = _tiles(q, rows, columns, around=False), *(_tiles(x, rows, columns, around=True) for x in (k, v))
    logits = q @ k.transpose(-1, -2) + table[:, None, None].masked_fill(~visible, -math.inf)
    y = torch.unflatten(softmax(logits, v.dtype) @ v, -2, (rows.tile, columns.tile))
    y = y.transpose(-4, -3).flatten(-3, -2).flatten(-4, -3)
    return y[..., rows.before : rows.before + rows.length, columns.before : columns.before + columns.length, :]


def _tiles(x: Maps, rows: Axis, columns: Axis, *, around: bool) -> Tiles:
    """The pixels of each tile, perhaps with those around it; beyond the map these are of the other end of it."""
    after = [axis.padded - axis.before - axis.length for axis in (rows, columns)]
    x = F.pad(x, (0, 0, columns.before, after[1], rows.before, after[0]))
    x = torch.unflatten(x, -2, (columns.number, columns.tile))
    x = torch.unflatten(x, -4, (rows.number, rows.tile))
    for axis, of_tiles, of_pixels in ((rows, -5, -4), (columns, -3, -2)):
        if around and axis.reach:
            above = x.narrow(of_pixels, axis.tile - axis.reach, axis.reach).roll(1, of_tiles)
            below = x.narrow(of_pixels, 0, axis.reach).roll(-1, of_tiles)
            x = torch.cat([above, x, below], of_pixels)
    return x.transpose(-4, -3).flatten(-3, -2)
