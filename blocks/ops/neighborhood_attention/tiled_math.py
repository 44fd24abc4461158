"""Neighborhood attention on all tiles at once, in operations that can be differentiated any number of times.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.ops.attention import relative_bias, softmax
from blocks.ops.neighborhood_attention.tiles import Axis, check_map, dilation_groups, tile_axis, visibility
from registry import Kernel

Maps = Float[Tensor, "b gy gx n h w d"]
Tiles = Float[Tensor, "b gy gx n rows columns pixels d"]


class TiledMath(Kernel):
    """Tiles of queries with the keys that they can attend to, for gradient penalties on large maps."""

    op, name, priority = "neighborhood_attention", "tiled-math", 20
    second_order, forward_ad = True, True
    portable = True  # plain operations like the reference, with a tenth of its memory

    def unsupported(self, q: Tensor, k: Tensor, v: Tensor, **_: object) -> list[str]:
        return ["compiled code has one derivative only"] if torch.compiler.is_compiling() else []

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
        check_map(height, width, kernel_size, dilation)
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        q, k, v = (_split_groups(x, dilation) for x in (q * scale, k, v))
        most_rows, most_columns = q.shape[4:6]
        bands = []
        for row_groups, num_rows in dilation_groups(height, dilation):
            band = []
            for column_groups, num_columns in dilation_groups(width, dilation):
                rows, columns = tile_axis(num_rows, kernel_size), tile_axis(num_columns, kernel_size)
                group_q, group_k, group_v = (
                    x[:, row_groups, column_groups, :, :num_rows, :num_columns] for x in (q, k, v)
                )
                y = _attend(group_q, group_k, group_v, rows, columns, kernel_size, bias)
                band.append(F.pad(y, (0, 0, 0, most_columns - num_columns, 0, most_rows - num_rows)))
            bands.append(torch.cat(band, 2))
        y = torch.cat(bands, 1).permute(0, 4, 1, 5, 2, 3, 6)
        return y.flatten(3, 4).flatten(1, 2)[:, :height, :width]


def _split_groups(x: Float[Tensor, "b h w n d"], dilation: int) -> Maps:
    """Each dilation group as a map of its own; the last row and column of shorter groups are padding."""
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, 0, 0, -width % dilation, 0, -height % dilation))
    x = torch.unflatten(torch.unflatten(x, 2, (-1, dilation)), 1, (-1, dilation))
    return x.permute(0, 2, 4, 5, 1, 3, 6)


def _attend(q: Maps, k: Maps, v: Maps, rows: Axis, columns: Axis, kernel_size: int, bias: Tensor | None) -> Maps:
    visible_rows, table_rows = visibility(rows, kernel_size, q.device)
    visible_columns, table_columns = visibility(columns, kernel_size, q.device)
    visible = visible_rows[:, None, :, None, :, None] & visible_columns[None, :, None, :, None, :]
    visible = visible.flatten(4).flatten(2, 3)  # rows columns queries keys
    table = q.new_zeros(1, 1, 1) if bias is None else relative_bias(bias, table_rows, table_columns)
    q, k, v = _tiles(q, rows, columns, halo=False), *(_tiles(x, rows, columns, halo=True) for x in (k, v))
    logits = q @ k.transpose(-1, -2) + table[:, None, None].masked_fill(~visible, -math.inf)
    y = torch.unflatten(softmax(logits, v.dtype) @ v, -2, (rows.tile, columns.tile))
    y = y.transpose(-4, -3).flatten(-3, -2).flatten(-4, -3)
    return y[..., rows.before : rows.before + rows.length, columns.before : columns.before + columns.length, :]


def _tiles(x: Maps, rows: Axis, columns: Axis, *, halo: bool) -> Tiles:
    """The pixels of each tile, with `halo` also those around it; beyond the map the halo wraps around."""
    after = [axis.padded - axis.before - axis.length for axis in (rows, columns)]
    x = F.pad(x, (0, 0, columns.before, after[1], rows.before, after[0]))
    x = torch.unflatten(x, -2, (columns.num_tiles, columns.tile))
    x = torch.unflatten(x, -4, (rows.num_tiles, rows.tile))
    for axis, tile_dim, pixel_dim in ((rows, -5, -4), (columns, -3, -2)):
        if halo and axis.reach:
            above = x.narrow(pixel_dim, axis.tile - axis.reach, axis.reach).roll(1, tile_dim)
            below = x.narrow(pixel_dim, 0, axis.reach).roll(-1, tile_dim)
            x = torch.cat([above, x, below], pixel_dim)
    return x.transpose(-4, -3).flatten(-3, -2)
