"""Neighborhood attention in Triton, with the softmax computed block by block.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1; softmax by blocks: FlashAttention, Dao et al.
2022, https://arxiv.org/abs/2205.14135, section 3.1. `triton_tiles` documents tiles and windows.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from blocks.ops.neighborhood_attention.triton_tiles import (
    AT_RUN_TIME,
    HIDDEN,
    LOG2_E,
    first_query,
    in_window,
    load_bias,
    load_pixels,
    locate,
    pixel_offsets,
    product,
    product_add,
    store_pixels,
    window_start,
)


@triton.jit(do_not_specialize=AT_RUN_TIME)
def forward(
    q, k, v, table, y, sums, scale, heads, height, width, dilation,
    q_batch: tl.int64, q_row: tl.int64, q_column: tl.int64, q_head: tl.int64, q_channel: tl.int64,
    k_batch: tl.int64, k_row: tl.int64, k_column: tl.int64, k_head: tl.int64, k_channel: tl.int64,
    v_batch: tl.int64, v_row: tl.int64, v_column: tl.int64, v_head: tl.int64, v_channel: tl.int64,
    K: tl.constexpr, D: tl.constexpr, PADDED: tl.constexpr, ALIGN: tl.constexpr, UNIT: tl.constexpr,
    HAS_BIAS: tl.constexpr, TILE_Y: tl.constexpr, TILE_X: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    TABLE_ROWS: tl.constexpr, TABLE_SIZE: tl.constexpr,
):  # fmt: skip
    """Output y and the binary logarithm of each query's softmax denominator; one tile of queries per program.

    `table` is the expanded bias of `triton_bias`. Strides of q, k and v are in units of ALIGN elements.
    """
    head, batch, group_y, tile_y, length_y, group_x, tile_x, length_x = locate(heads, height, width, dilation)
    if (tile_y * TILE_Y >= length_y) | (tile_x * TILE_X >= length_x):
        return
    BLOCKS_X: tl.constexpr = (TILE_X + K - 1 + COLUMNS - 1) // COLUMNS
    first_y, first_x = first_query(tile_y, length_y, K, TILE_Y), first_query(tile_x, length_x, K, TILE_X)
    pixel = tl.arange(0, TILE_Y * TILE_X)
    query_y, query_x = first_y + pixel // TILE_X, first_x + pixel % TILE_X
    inside = (query_y < length_y) & (query_x < length_x)
    start_y, start_x = window_start(query_y, length_y, K), window_start(query_x, length_x, K)

    offsets = pixel_offsets(query_y, query_x, group_y, group_x, dilation, q_row * ALIGN, q_column * ALIGN)
    q += batch * q_batch * ALIGN + head * q_head * ALIGN
    k += batch * k_batch * ALIGN + head * k_head * ALIGN
    v += batch * v_batch * ALIGN + head * v_head * ALIGN
    queries = load_pixels(q, offsets, q_channel, inside, D, PADDED, UNIT)

    block_pixel = tl.arange(0, ROWS * COLUMNS)
    block_y, block_x = block_pixel // COLUMNS, block_pixel % COLUMNS
    origin_y, origin_x = first_y - K // 2, first_x - K // 2
    row_begin = tl.maximum(-origin_y, 0) // ROWS
    row_end = (tl.minimum(TILE_Y + K - 1, length_y - origin_y) + ROWS - 1) // ROWS
    maximum = tl.full([TILE_Y * TILE_X], HIDDEN, tl.float32)
    total = tl.zeros([TILE_Y * TILE_X], tl.float32)
    result = tl.zeros([TILE_Y * TILE_X, PADDED], tl.float32)
    for column in range(BLOCKS_X):
        key_x = origin_x + column * COLUMNS + block_x
        in_columns = in_window(key_x[None, :], start_x[:, None], K)
        inside_x = (key_x >= 0) & (key_x < length_x)
        for row in range(row_begin, row_end):
            key_y = origin_y + row * ROWS + block_y
            key_inside = inside_x & (key_y >= 0) & (key_y < length_y)
            key_offsets = pixel_offsets(key_y, key_x, group_y, group_x, dilation, k_row * ALIGN, k_column * ALIGN)
            keys = load_pixels(k, key_offsets, k_channel, key_inside, D, PADDED, UNIT)
            logits = product(queries, tl.trans(keys), PADDED) * (scale * LOG2_E)
            if HAS_BIAS:
                block = head * TABLE_SIZE + (column * TABLE_ROWS + row * ROWS) * (TILE_Y * TILE_X * COLUMNS)
                logits += load_bias(table + block, TILE_Y * TILE_X, ROWS * COLUMNS)
            visible = in_columns & in_window(key_y[None, :], start_y[:, None], K)
            logits = tl.where(visible, logits, HIDDEN)
            larger = tl.maximum(maximum, tl.max(logits, 1))
            weights = tl.exp2(logits - larger[:, None])
            shrink = tl.exp2(maximum - larger)
            total = total * shrink + tl.sum(weights, 1)
            value_offsets = pixel_offsets(key_y, key_x, group_y, group_x, dilation, v_row * ALIGN, v_column * ALIGN)
            values = load_pixels(v, value_offsets, v_channel, key_inside, D, PADDED, UNIT)
            result = product_add(weights.to(values.dtype), values, result * shrink[:, None], PADDED)
            maximum = larger

    stored = inside & (query_y >= tile_y * TILE_Y) & (query_x >= tile_x * TILE_X)
    y_row = (width * heads * D).to(tl.int64)
    y_offsets = pixel_offsets(query_y, query_x, group_y, group_x, dilation, y_row, heads * D)
    y += batch * (height * y_row) + head * D
    store_pixels(y, y_offsets, result / total[:, None], stored, D, PADDED)
    sums += (batch * heads + head) * (height.to(tl.int64) * width)
    sum_offsets = pixel_offsets(query_y, query_x, group_y, group_x, dilation, width, 1)
    tl.store(sums + sum_offsets, maximum + tl.log2(total), mask=stored)
