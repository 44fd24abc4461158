"""Gradients of queries, keys and values in Triton, without atomic additions: the same bits each time.

FlashAttention-2, Dao 2023, https://arxiv.org/abs/2307.08691, section 3.1, algorithm 2, on the tiles of `triton_tiles`.
With softmax weights P and output gradient G: dV = P^T G, dS = P * (G V^T - delta) and delta = sum(G * Y) per query,
dQ = scale dS K, dK = scale dS^T Q, and the gradient of the bias is the sum of dS over pairs of pixels with the same
relative position. One kernel owns tiles of queries and sums dS, another owns tiles of keys.

Key k is in the windows of the queries from k - K // 2 to k + K // 2, but from the first one on if k < K, and up to the
last one if k is one of the last K keys.
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
    locate,
    pixel_offsets,
    product,
    product_add,
    store_pixels,
    window_start,
)


@triton.jit(do_not_specialize=[*AT_RUN_TIME, "tiles", "tiles_y", "tiles_x"])
def query_gradients(
    q, k, v, g, table, y, sums, dq, delta, partial, scale, heads, height, width, dilation, tiles, tiles_y, tiles_x,
    q_batch: tl.int64, q_row: tl.int64, q_column: tl.int64, q_head: tl.int64, q_channel: tl.int64,
    k_batch: tl.int64, k_row: tl.int64, k_column: tl.int64, k_head: tl.int64, k_channel: tl.int64,
    v_batch: tl.int64, v_row: tl.int64, v_column: tl.int64, v_head: tl.int64, v_channel: tl.int64,
    g_batch: tl.int64, g_row: tl.int64, g_column: tl.int64, g_head: tl.int64, g_channel: tl.int64,
    K: tl.constexpr, D: tl.constexpr, PADDED: tl.constexpr, ALIGN: tl.constexpr, UNIT: tl.constexpr,
    HAS_BIAS: tl.constexpr, TILE_Y: tl.constexpr, TILE_X: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    TABLE_ROWS: tl.constexpr, TABLE_SIZE: tl.constexpr, SUMMED: tl.constexpr,
):  # fmt: skip
    """dQ and delta; one tile of queries per program.

    If SUMMED, a program computes every n-th of the `tiles` of a head, where n = programs / heads, and adds their dS to
    its own partial[program // heads, head, block, query, key]. Nothing else writes there, so no addition is atomic.
    """
    BLOCKS_X: tl.constexpr = (TILE_X + K - 1 + COLUMNS - 1) // COLUMNS
    BLOCKS: tl.constexpr = (TILE_Y + K - 1 + ROWS - 1) // ROWS * BLOCKS_X
    CELLS: tl.constexpr = TILE_Y * TILE_X * ROWS * COLUMNS
    head, chunk, chunks = tl.program_id(0) % heads, tl.program_id(0) // heads, tl.num_programs(0) // heads
    pixel, block_pixel = tl.arange(0, TILE_Y * TILE_X), tl.arange(0, ROWS * COLUMNS)
    block_y, block_x = block_pixel // COLUMNS, block_pixel % COLUMNS
    steps = 1
    if SUMMED:
        steps = (tiles - chunk + chunks - 1) // chunks
        partial += (chunk * heads + head).to(tl.int64) * (BLOCKS * CELLS)
    for step in range(steps):
        tile = chunk + step * chunks
        tile_x, rest = tile % tiles_x, tile // tiles_x
        tile_y, rest = rest % tiles_y, rest // tiles_y
        group_x, rest = rest % dilation, rest // dilation
        group_y, batch = rest % dilation, rest // dilation
        length_y, length_x = group_length(height, group_y, dilation), group_length(width, group_x, dilation)
        if (tile_y * TILE_Y < length_y) & (tile_x * TILE_X < length_x):
            first_y, first_x = first_query(tile_y, length_y, K, TILE_Y), first_query(tile_x, length_x, K, TILE_X)
            query_y, query_x = first_y + pixel // TILE_X, first_x + pixel % TILE_X
            inside = (query_y < length_y) & (query_x < length_x)
            start_y, start_x = window_start(query_y, length_y, K), window_start(query_x, length_x, K)
            stored = inside & (query_y >= tile_y * TILE_Y) & (query_x >= tile_x * TILE_X)

            y_row = (width * heads * D).to(tl.int64)
            y_first = batch * (height * y_row) + head * D
            y_offsets = y_first + pixel_offsets(query_y, query_x, group_y, group_x, dilation, y_row, heads * D)
            q_first, k_first = (batch * q_batch + head * q_head) * ALIGN, (batch * k_batch + head * k_head) * ALIGN
            v_first, g_first = (batch * v_batch + head * v_head) * ALIGN, (batch * g_batch + head * g_head) * ALIGN
            q_offsets = pixel_offsets(query_y, query_x, group_y, group_x, dilation, q_row * ALIGN, q_column * ALIGN)
            g_offsets = pixel_offsets(query_y, query_x, group_y, group_x, dilation, g_row * ALIGN, g_column * ALIGN)
            queries = load_pixels(q + q_first, q_offsets, q_channel, inside, D, PADDED, UNIT)
            grads = load_pixels(g + g_first, g_offsets, g_channel, inside, D, PADDED, UNIT)
            outputs = load_pixels(y, y_offsets, 1, inside, D, PADDED, True)
            sum_offsets = pixel_offsets(query_y, query_x, group_y, group_x, dilation, width.to(tl.int64), 1)
            sum_offsets += (batch * heads + head) * (height.to(tl.int64) * width)
            query_sums = tl.load(sums + sum_offsets, mask=inside, other=0.0)
            query_delta = tl.sum(grads.to(tl.float32) * outputs.to(tl.float32), 1)
            tl.store(delta + sum_offsets, query_delta, mask=stored)

            origin_y, origin_x = first_y - K // 2, first_x - K // 2
            row_begin = tl.maximum(-origin_y, 0) // ROWS
            row_end = (tl.minimum(TILE_Y + K - 1, length_y - origin_y) + ROWS - 1) // ROWS
            result = tl.zeros([TILE_Y * TILE_X, PADDED], tl.float32)
            for column in range(BLOCKS_X):
                key_x = origin_x + column * COLUMNS + block_x
                in_columns = in_window(key_x[None, :], start_x[:, None], K) & stored[:, None]
                inside_x = (key_x >= 0) & (key_x < length_x)
                for row in range(row_begin, row_end):
                    key_y = origin_y + row * ROWS + block_y
                    key_inside = inside_x & (key_y >= 0) & (key_y < length_y)
                    k_offsets = pixel_offsets(key_y, key_x, group_y, group_x, dilation, k_row * ALIGN, k_column * ALIGN)
                    v_offsets = pixel_offsets(key_y, key_x, group_y, group_x, dilation, v_row * ALIGN, v_column * ALIGN)
                    keys = load_pixels(k + k_first, k_offsets, k_channel, key_inside, D, PADDED, UNIT)
                    values = load_pixels(v + v_first, v_offsets, v_channel, key_inside, D, PADDED, UNIT)
                    logits = product(queries, tl.trans(keys), PADDED) * (scale * LOG2_E)
                    if HAS_BIAS:
                        block = head * TABLE_SIZE + (column * TABLE_ROWS + row * ROWS) * (TILE_Y * TILE_X * COLUMNS)
                        logits += load_bias(table + block, TILE_Y * TILE_X, ROWS * COLUMNS)
                    visible = in_columns & in_window(key_y[None, :], start_y[:, None], K)
                    weights = tl.where(visible, tl.exp2(logits - query_sums[:, None]), 0.0)
                    dlogits = weights * (product(grads, tl.trans(values), PADDED) - query_delta[:, None])
                    result = product_add(dlogits.to(keys.dtype), keys, result, PADDED)
                    if SUMMED:
                        block_sums = partial + (row * BLOCKS_X + column) * CELLS
                        block_sums += pixel[:, None] * (ROWS * COLUMNS) + block_pixel[None, :]
                        tl.store(block_sums, tl.load(block_sums) + dlogits)
            store_pixels(dq, y_offsets, result * scale, stored, D, PADDED)
        if SUMMED:
            tl.debug_barrier()  # another thread may add to the same sum in the next step


@triton.jit(do_not_specialize=AT_RUN_TIME)
def key_gradients(
    q, k, v, g, table, sums, delta, dk, dv, scale, heads, height, width, dilation,
    q_batch: tl.int64, q_row: tl.int64, q_column: tl.int64, q_head: tl.int64, q_channel: tl.int64,
    k_batch: tl.int64, k_row: tl.int64, k_column: tl.int64, k_head: tl.int64, k_channel: tl.int64,
    v_batch: tl.int64, v_row: tl.int64, v_column: tl.int64, v_head: tl.int64, v_channel: tl.int64,
    g_batch: tl.int64, g_row: tl.int64, g_column: tl.int64, g_head: tl.int64, g_channel: tl.int64,
    K: tl.constexpr, D: tl.constexpr, PADDED: tl.constexpr, ALIGN: tl.constexpr, UNIT: tl.constexpr,
    HAS_BIAS: tl.constexpr, TILE_Y: tl.constexpr, TILE_X: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    TABLE_OFFSET: tl.constexpr, TABLE_SIZE: tl.constexpr,
):  # fmt: skip
    """dK and dV; one tile of keys per program, and blocks of the queries that attend to them.

    The bias for tiles of keys begins TABLE_OFFSET values after a head's first.
    """
    head, batch, group_y, tile_y, length_y, group_x, tile_x, length_x = locate(heads, height, width, dilation)
    first_y, first_x = tile_y * TILE_Y, tile_x * TILE_X
    if (first_y >= length_y) | (first_x >= length_x):
        return
    TABLE_COLUMNS: tl.constexpr = ((TILE_X + K + K // 2 - 2) // COLUMNS + 2) * COLUMNS
    pixel = tl.arange(0, TILE_Y * TILE_X)
    key_y, key_x = first_y + pixel // TILE_X, first_x + pixel % TILE_X
    inside = (key_y < length_y) & (key_x < length_x)

    q += batch * q_batch * ALIGN + head * q_head * ALIGN
    k += batch * k_batch * ALIGN + head * k_head * ALIGN
    v += batch * v_batch * ALIGN + head * v_head * ALIGN
    g += batch * g_batch * ALIGN + head * g_head * ALIGN
    k_offsets = pixel_offsets(key_y, key_x, group_y, group_x, dilation, k_row * ALIGN, k_column * ALIGN)
    v_offsets = pixel_offsets(key_y, key_x, group_y, group_x, dilation, v_row * ALIGN, v_column * ALIGN)
    keys = load_pixels(k, k_offsets, k_channel, inside, D, PADDED, UNIT)
    values = load_pixels(v, v_offsets, v_channel, inside, D, PADDED, UNIT)
    sums_first = (batch * heads + head) * (height.to(tl.int64) * width)
    table += head * TABLE_SIZE + TABLE_OFFSET
    sums += sums_first
    delta += sums_first

    block_pixel = tl.arange(0, ROWS * COLUMNS)
    block_y, block_x = block_pixel // COLUMNS, block_pixel % COLUMNS
    query_first, query_last = attending(first_y, length_y, K, TILE_Y)
    row_end = (query_last - query_first) // ROWS + 1
    column_first, column_last = attending(first_x, length_x, K, TILE_X)
    origin_x = first_x - K // 2 - COLUMNS  # a block further left than usual, so that numbers of blocks are positive
    dkeys = tl.zeros([TILE_Y * TILE_X, PADDED], tl.float32)
    dvalues = tl.zeros([TILE_Y * TILE_X, PADDED], tl.float32)
    for column in range((column_first - origin_x) // COLUMNS, (column_last - origin_x) // COLUMNS + 1):
        query_x = origin_x + column * COLUMNS + block_x
        in_columns = in_window(key_x[:, None], window_start(query_x, length_x, K)[None, :], K)
        inside_x = (query_x >= 0) & (query_x < length_x)
        index = (block_y[None, :] - (pixel // TILE_X)[:, None]) * TILE_X + (pixel % TILE_X)[:, None]
        index = index * TABLE_COLUMNS + (column * COLUMNS + block_x)[None, :]
        for row in range(0, row_end):
            query_y = query_first + row * ROWS + block_y
            query_inside = inside_x & (query_y < length_y)
            q_offsets = pixel_offsets(query_y, query_x, group_y, group_x, dilation, q_row * ALIGN, q_column * ALIGN)
            g_offsets = pixel_offsets(query_y, query_x, group_y, group_x, dilation, g_row * ALIGN, g_column * ALIGN)
            sum_offsets = pixel_offsets(query_y, query_x, group_y, group_x, dilation, width.to(tl.int64), 1)
            queries = load_pixels(q, q_offsets, q_channel, query_inside, D, PADDED, UNIT)
            grads = load_pixels(g, g_offsets, g_channel, query_inside, D, PADDED, UNIT)
            query_sums = tl.load(sums + sum_offsets, mask=query_inside, other=0.0)
            query_delta = tl.load(delta + sum_offsets, mask=query_inside, other=0.0)
            logits = product(keys, tl.trans(queries), PADDED) * (scale * LOG2_E)
            if HAS_BIAS:
                table_row = query_first + row * ROWS - first_y + TILE_Y + K - 2
                logits += tl.load(table + table_row * (TILE_X * TABLE_COLUMNS) + index).to(tl.float32)
            visible = in_columns & in_window(key_y[:, None], window_start(query_y, length_y, K)[None, :], K)
            visible = visible & query_inside[None, :]
            weights = tl.where(visible, tl.exp2(logits - query_sums[None, :]), 0.0)
            dvalues = product_add(weights.to(grads.dtype), grads, dvalues, PADDED)
            dlogits = weights * (product(values, tl.trans(grads), PADDED) - query_delta[None, :])
            dkeys = product_add(dlogits.to(queries.dtype), queries, dkeys, PADDED)
    y_row = (width * heads * D).to(tl.int64)
    y_offsets = batch * (height * y_row) + head * D
    y_offsets += pixel_offsets(key_y, key_x, group_y, group_x, dilation, y_row, heads * D)
    store_pixels(dk, y_offsets, dkeys * scale, inside, D, PADDED)
    store_pixels(dv, y_offsets, dvalues, inside, D, PADDED)


@triton.jit
def attending(first, length, K: tl.constexpr, TILE: tl.constexpr):
    """The first and the last query with a window that contains keys of the tile that begins at key `first`."""
    last = tl.minimum(first + TILE, length) - 1
    first_query = tl.where(first < K, 0, first - K // 2)
    return first_query, tl.where(last >= length - K, length - 1, last + K // 2)
