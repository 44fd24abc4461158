"""Relative position bias in Triton: the expanded table, and the last step of the bias gradient.

Swin-style relative position bias of NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1.

All tiles of queries have the same position relative to their blocks of keys (see `triton_tiles`). `expand` therefore
writes the bias of all pairs of a tile and its blocks once, in an order that is fast to load, and dS can be summed over
tiles before it is sorted into the bias table.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from blocks.ops.neighborhood_attention.triton_tiles import LOG2_E


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


@triton.jit
def gather_bias_gradients(
    pairs, dbias, K: tl.constexpr, TILE_Y: tl.constexpr, TILE_X: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, SIDE: tl.constexpr,
):  # fmt: skip
    """One row of the bias gradient of a head: the sums of pairs[head, block, query, key] with equal positions."""
    BLOCKS_X: tl.constexpr = (TILE_X + K - 1 + COLUMNS - 1) // COLUMNS
    BLOCKS_Y: tl.constexpr = (TILE_Y + K - 1 + ROWS - 1) // ROWS
    head, bias_row = tl.program_id(0), tl.program_id(1)
    pixel, bias_column = tl.arange(0, TILE_Y * TILE_X), tl.arange(0, SIDE)
    row = (bias_row - (K - 1) + K // 2 + pixel // TILE_X)[:, None]
    column = (bias_column - (K - 1) + K // 2)[None, :] + (pixel % TILE_X)[:, None]
    defined = (row >= 0) & (row < BLOCKS_Y * ROWS) & (column >= 0) & (column < BLOCKS_X * COLUMNS)
    block = (head * BLOCKS_Y + row // ROWS) * BLOCKS_X + column // COLUMNS
    pair = (block * (TILE_Y * TILE_X) + pixel[:, None]) * (ROWS * COLUMNS) + row % ROWS * COLUMNS + column % COLUMNS
    result = tl.sum(tl.load(pairs + pair, mask=defined, other=0.0), 0)
    dbias += (head * (2 * K - 1) + bias_row) * (2 * K - 1) + bias_column
    tl.store(dbias, result.to(dbias.dtype.element_ty), mask=bias_column < 2 * K - 1)
