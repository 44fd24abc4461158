"""Relative position bias in Triton: the expanded table, and the bias gradient without atomic additions.

Swin-style relative position bias of NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1.

All tiles of queries have the same position relative to their blocks of keys (see `triton_tiles`). `expand` therefore
writes the bias of all pairs of a tile and its blocks once, in an order that is fast to load, and dS can be summed over
tiles before it is sorted into the bias table.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from blocks.ops.neighborhood_attention.triton_tiles import (
    AT_RUN_TIME,
    LOG2_E,
    first_query,
    group_length,
    in_window,
    load_bias,
    load_pixels,
    pixel_offsets,
    product,
    window_start,
)


@triton.jit
def expand(
    bias, table, K: tl.constexpr, TILE_Y: tl.constexpr, TILE_X: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    TABLE_ROWS: tl.constexpr, KEY_TILE_Y: tl.constexpr, KEY_TILE_X: tl.constexpr, KEY_COLUMNS: tl.constexpr,
    TABLE_OFFSET: tl.constexpr, TABLE_SIZE: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    """Write a head's bias, times log2(e), for tiles of queries, and from TABLE_OFFSET on for tiles of keys.

    For queries: table[block, pair], where blocks of a column of blocks follow each other, and `pair` is a pair of query
    and key in the order of `triton_tiles.load_bias`. For keys: table[row, key_x, column], where `row` is the query's
    row minus the key's, and `column` the query's column relative to the block before the tile's first.
    """
    SIDE: tl.constexpr = 2 * K - 1
    N: tl.constexpr = ROWS * COLUMNS
    WARPS: tl.constexpr = TILE_Y * TILE_X // 16
    head = tl.program_id(0)
    cell = tl.program_id(1) * CELLS + tl.arange(0, CELLS)

    block, pair = cell // (TILE_Y * TILE_X * N), cell % (TILE_Y * TILE_X * N)
    low = pair % 2 + pair // 2 % 2 * 8  # bits of the key
    if table.dtype.element_ty == tl.float32:
        key = low + pair // 4 % 4 * 2 + pair // (256 * WARPS) * 16
        query = pair // 16 % 8 + pair // (128 * WARPS) % 2 * 8 + pair // 128 % WARPS * 16
    else:
        key = low + pair // 8 % 4 * 2 + pair // (256 * WARPS) * 16
        query = pair // 32 % 8 + pair // 4 % 2 * 8 + pair // 256 % WARPS * 16
    row = K - 1 - K // 2 + block % (TABLE_ROWS // ROWS) * ROWS + key // COLUMNS - query // TILE_X
    column = K - 1 - K // 2 + block // (TABLE_ROWS // ROWS) * COLUMNS + key % COLUMNS - query % TILE_X

    KEY_TABLE_COLUMNS: tl.constexpr = ((KEY_TILE_X + K + K // 2 - 2) // KEY_COLUMNS + 2) * KEY_COLUMNS
    rest = cell - TABLE_OFFSET
    key_row = 2 * K + KEY_TILE_Y - 3 - rest // (KEY_TILE_X * KEY_TABLE_COLUMNS)
    key_column = K - 1 + K // 2 + KEY_COLUMNS + rest // KEY_TABLE_COLUMNS % KEY_TILE_X - rest % KEY_TABLE_COLUMNS
    row, column = tl.where(rest < 0, row, key_row), tl.where(rest < 0, column, key_column)
    defined = (row >= 0) & (row < SIDE) & (column >= 0) & (column < SIDE) & (cell < TABLE_SIZE)
    values = tl.load(bias + (head * SIDE + row) * SIDE + column, mask=defined, other=0.0).to(tl.float32) * LOG2_E
    tl.store(table + head * TABLE_SIZE + cell, values.to(table.dtype.element_ty), mask=cell < TABLE_SIZE)


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
    TABLE_ROWS: tl.constexpr, TABLE_SIZE: tl.constexpr,
):  # fmt: skip
    """Sums of dS over a chunk of tiles, for one head and one block of keys: partial[chunk, head, block, query, key]."""
    BLOCKS_X: tl.constexpr = (TILE_X + K - 1 + COLUMNS - 1) // COLUMNS
    BLOCKS: tl.constexpr = (TILE_Y + K - 1 + ROWS - 1) // ROWS * BLOCKS_X
    head, block, chunk = tl.program_id(0) // BLOCKS, tl.program_id(0) % BLOCKS, tl.program_id(1)
    block_row, block_column = block // BLOCKS_X, block % BLOCKS_X
    pixel = tl.arange(0, TILE_Y * TILE_X)
    pixel_y, pixel_x = pixel // TILE_X, pixel % TILE_X
    block_pixel = tl.arange(0, ROWS * COLUMNS)
    block_y, block_x = block_row * ROWS + block_pixel // COLUMNS, block_column * COLUMNS + block_pixel % COLUMNS
    q += head * q_head * ALIGN
    k += head * k_head * ALIGN
    v += head * v_head * ALIGN
    g += head * g_head * ALIGN
    table += head * TABLE_SIZE
    table += (block_column * TABLE_ROWS + block_row * ROWS) * (TILE_Y * TILE_X * COLUMNS)
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
        logits = product(queries, tl.trans(keys)) * (scale * LOG2_E)
        logits += load_bias(table, TILE_Y * TILE_X, ROWS * COLUMNS)
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
