"""Relative position bias in Triton: the expanded table, and the bias gradient without atomic additions.

Swin-style relative position bias of NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1.

In a tile, the bias of a pixel of a block depends on its row minus the tile's row, and on both columns. `expand` writes
these values so that the bias of neighboring pixels of a block is contiguous. All tiles have the same positions
relative to their blocks (see `triton_tiles`), so that dS can be summed over tiles before it is sorted into the table.
"""

from __future__ import annotations

import triton
import triton.language as tl

from blocks.ops.neighborhood_attention.triton_tiles import (
    AT_RUN_TIME,
    LOG2_E,
    bias_index,
    first_query,
    group_length,
    in_window,
    load_pixels,
    pixel_offsets,
    product,
    window_start,
)


@triton.jit
def expand(
    bias, table, row_offset: tl.constexpr, column_offset: tl.constexpr, SIGN: tl.constexpr, K: tl.constexpr,
    ROWS: tl.constexpr, TILE_X: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write table[head, row, x, column] = log2(e) bias[head, K-1 + SIGN (row - row_offset), K-1 + SIGN (column - x -
    column_offset)], and zero beyond the bias."""
    SIDE: tl.constexpr = 2 * K - 1
    head = tl.program_id(0)
    cell = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row, x, column = cell // (TILE_X * COLUMNS), cell // COLUMNS % TILE_X, cell % COLUMNS
    bias_row = K - 1 + SIGN * (row - row_offset)
    bias_column = K - 1 + SIGN * (column - x - column_offset)
    defined = (bias_row >= 0) & (bias_row < SIDE) & (bias_column >= 0) & (bias_column < SIDE)
    values = tl.load(bias + (head * SIDE + bias_row) * SIDE + bias_column, mask=defined, other=0.0)
    cells: tl.constexpr = ROWS * TILE_X * COLUMNS
    tl.store(table + head * cells + cell, values.to(tl.float32) * LOG2_E, mask=cell < cells)


@triton.jit(do_not_specialize=[*AT_RUN_TIME, "tiles", "tiles_y", "tiles_x", "tiles_per_chunk"])
def bias_gradients(
    q, k, v, g, table, sums, delta, partial, scale, heads, height, width, dilation,
    tiles, tiles_y, tiles_x, tiles_per_chunk,
    q_batch: tl.int64, q_row: tl.int64, q_column: tl.int64, q_head: tl.int64, q_channel: tl.int64,
    k_batch: tl.int64, k_row: tl.int64, k_column: tl.int64, k_head: tl.int64, k_channel: tl.int64,
    v_batch: tl.int64, v_row: tl.int64, v_column: tl.int64, v_head: tl.int64, v_channel: tl.int64,
    g_batch: tl.int64, g_row: tl.int64, g_column: tl.int64, g_head: tl.int64, g_channel: tl.int64,
    K: tl.constexpr, D: tl.constexpr, PADDED: tl.constexpr, ALIGN: tl.constexpr, UNIT: tl.constexpr,
    TILE_Y: tl.constexpr, TILE_X: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sums of dS over a chunk of tiles, for one head and one block of keys: partial[chunk, head, block, query, key].

    `table` is the expanded bias for these tiles and blocks.
    """
    BLOCKS_X: tl.constexpr = (TILE_X + K - 1 + COLUMNS - 1) // COLUMNS
    BLOCKS: tl.constexpr = (TILE_Y + K - 1 + ROWS - 1) // ROWS * BLOCKS_X
    TABLE_ROWS: tl.constexpr = (TILE_Y + K - 1 + ROWS - 1) // ROWS * ROWS + TILE_Y - 1
    head, block, chunk = tl.program_id(0) // BLOCKS, tl.program_id(0) % BLOCKS, tl.program_id(1)
    pixel = tl.arange(0, TILE_Y * TILE_X)
    pixel_y, pixel_x = pixel // TILE_X, pixel % TILE_X
    block_pixel = tl.arange(0, ROWS * COLUMNS)
    block_y = block // BLOCKS_X * ROWS + block_pixel // COLUMNS
    block_x = block % BLOCKS_X * COLUMNS + block_pixel % COLUMNS
    q += head * q_head * ALIGN
    k += head * k_head * ALIGN
    v += head * v_head * ALIGN
    g += head * g_head * ALIGN
    index = bias_index(block_y, block_x, pixel_y, pixel_x, TILE_X, BLOCKS_X * COLUMNS)
    table += (head * TABLE_ROWS + TILE_Y - 1) * (TILE_X * BLOCKS_X * COLUMNS)
    result = tl.zeros([TILE_Y * TILE_X, ROWS * COLUMNS], tl.float32)
    for tile in range(chunk * tiles_per_chunk, tl.minimum(chunk * tiles_per_chunk + tiles_per_chunk, tiles)):
        tile_x, rest = tile % tiles_x, tile // tiles_x
        tile_y, rest = rest % tiles_y, rest // tiles_y
        group_x, rest = rest % dilation, rest // dilation
        group_y, batch = rest % dilation, rest // dilation
        length_y, length_x = group_length(height, group_y, dilation), group_length(width, group_x, dilation)
        first_y, first_x = first_query(tile_y, length_y, K, TILE_Y), first_query(tile_x, length_x, K, TILE_X)
        query_y, query_x = first_y + pixel_y, first_x + pixel_x
        key_y, key_x = first_y - K // 2 + block_y, first_x - K // 2 + block_x
        inside = (query_y < length_y) & (query_x < length_x)
        own = inside & (query_y >= tile_y * TILE_Y) & (query_x >= tile_x * TILE_X)
        key_inside = (key_y >= 0) & (key_y < length_y) & (key_x >= 0) & (key_x < length_x)
        q_offsets = pixel_offsets(query_y, query_x, group_y, group_x, dilation, q_row * ALIGN, q_column * ALIGN)
        g_offsets = pixel_offsets(query_y, query_x, group_y, group_x, dilation, g_row * ALIGN, g_column * ALIGN)
        k_offsets = pixel_offsets(key_y, key_x, group_y, group_x, dilation, k_row * ALIGN, k_column * ALIGN)
        v_offsets = pixel_offsets(key_y, key_x, group_y, group_x, dilation, v_row * ALIGN, v_column * ALIGN)
        queries = load_pixels(q + batch * q_batch * ALIGN, q_offsets, q_channel, inside, D, PADDED, UNIT)
        grads = load_pixels(g + batch * g_batch * ALIGN, g_offsets, g_channel, inside, D, PADDED, UNIT)
        keys = load_pixels(k + batch * k_batch * ALIGN, k_offsets, k_channel, key_inside, D, PADDED, UNIT)
        values = load_pixels(v + batch * v_batch * ALIGN, v_offsets, v_channel, key_inside, D, PADDED, UNIT)
        sum_offsets = pixel_offsets(query_y, query_x, group_y, group_x, dilation, width.to(tl.int64), 1)
        sum_offsets += (batch * heads + head) * (height.to(tl.int64) * width)
        query_sums = tl.load(sums + sum_offsets, mask=inside, other=0.0)
        query_delta = tl.load(delta + sum_offsets, mask=inside, other=0.0)
        logits = product(queries, tl.trans(keys)) * (scale * LOG2_E) + tl.load(table + index)
        in_rows = in_window(key_y[None, :], window_start(query_y, length_y, K)[:, None], K)
        in_columns = in_window(key_x[None, :], window_start(query_x, length_x, K)[:, None], K)
        visible = in_rows & in_columns & own[:, None]
        weights = tl.where(visible, tl.exp2(logits - query_sums[:, None]), 0.0)
        result += weights * (product(grads, tl.trans(values)) - query_delta[:, None])
    cells: tl.constexpr = TILE_Y * TILE_X * ROWS * COLUMNS
    partial += (chunk * heads * BLOCKS + tl.program_id(0)).to(tl.int64) * cells
    tl.store(partial + pixel[:, None] * (ROWS * COLUMNS) + block_pixel[None, :], result)


@triton.jit(do_not_specialize=["heads", "chunks"])
def sum_bias_gradients(
    partial, dbias, heads, chunks, K: tl.constexpr, TILE_Y: tl.constexpr, TILE_X: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, CHUNKS: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    """One row of the bias gradient of a head: the partial sums of its relative positions, in a fixed order."""
    BLOCKS_X: tl.constexpr = (TILE_X + K - 1 + COLUMNS - 1) // COLUMNS
    BLOCKS_Y: tl.constexpr = (TILE_Y + K - 1 + ROWS - 1) // ROWS
    head, bias_row = tl.program_id(0), tl.program_id(1)
    pixel, bias_column = tl.arange(0, TILE_Y * TILE_X), tl.arange(0, SIDE)
    row = (bias_row - (K - 1) + K // 2 + pixel // TILE_X)[:, None]
    column = (bias_column - (K - 1) + K // 2)[None, :] + (pixel % TILE_X)[:, None]
    defined = (row >= 0) & (row < BLOCKS_Y * ROWS) & (column >= 0) & (column < BLOCKS_X * COLUMNS)
    block = (head * BLOCKS_Y + row // ROWS) * BLOCKS_X + column // COLUMNS
    cell = (block * (TILE_Y * TILE_X) + pixel[:, None]) * (ROWS * COLUMNS) + row % ROWS * COLUMNS + column % COLUMNS
    size = heads * (BLOCKS_Y * BLOCKS_X * TILE_Y * TILE_X * ROWS * COLUMNS)
    result = tl.zeros([TILE_Y * TILE_X, SIDE], tl.float32)
    for first in range(0, chunks, CHUNKS):
        chunk = first + tl.arange(0, CHUNKS)
        pointers = partial + chunk[:, None, None].to(tl.int64) * size + cell[None, :, :]
        mask = (chunk < chunks)[:, None, None] & defined[None, :, :]
        result += tl.sum(tl.load(pointers, mask=mask, other=0.0), 0)
    dbias += (head * (2 * K - 1) + bias_row) * (2 * K - 1) + bias_column
    tl.store(dbias, tl.sum(result, 0).to(dbias.dtype.element_ty), mask=bias_column < 2 * K - 1)
