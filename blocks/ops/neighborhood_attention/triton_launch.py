"""Launches of the Triton kernels of neighborhood attention, and their measured configurations.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143. A kernel is compiled once for each window, head size, dtype,
alignment and presence of a bias; map sizes, strides and dilations are integers at run time.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from blocks.ops.launches import Call, launch
from blocks.ops.neighborhood_attention import triton_backward, triton_bias, triton_forward

FUNCTIONS = {
    "forward": triton_forward.forward,
    "queries": triton_backward.query_gradients,
    "keys": triton_backward.key_gradients,
}
WIDEST_ACCESS = 16  # bytes that a thread loads at once
PARTIAL_BYTES, PROGRAMS = 2**25, 528  # of the partial sums of the bias gradient, and of programs that write them
CELLS = 1024  # of the expanded bias per program
TILE_X = 8  # columns of a tile
MOST_IMAGES = 65535  # of CUDA's third grid axis


class Configuration(NamedTuple):
    """Tile of pixels that a program computes, block of pixels per step, warps per program, and pipeline stages."""

    tile_y: int
    tile_x: int
    rows: int
    columns: int
    warps: int
    stages: int


class Plan(NamedTuple):
    """The configuration of each kernel. The first two read one bias table, so they have the same tiles and columns."""

    forward: Configuration
    queries: Configuration
    keys: Configuration


# Rows of a tile, pixels of a block, warps and stages of each kernel, by largest head size and 16-bit dtype: the fastest
# of those that were measured on an H200 with windows of 7 at 256 px; heads of 64 and 128 are not measured yet.
MEASURED = {
    (32, False): ((4, 32, 1, 2), (4, 32, 2, 2), (4, 32, 2, 2)),
    (32, True): ((4, 32, 1, 3), (4, 32, 2, 3), (4, 32, 1, 2)),
    (64, False): ((4, 16, 4, 1), (4, 16, 4, 1), (4, 16, 4, 1)),
    (64, True): ((8, 32, 4, 2), (8, 32, 4, 2), (8, 32, 4, 1)),
    (128, False): ((8, 16, 8, 1), (8, 16, 8, 2), (8, 16, 8, 1)),
    (128, True): ((8, 32, 8, 1), (8, 32, 8, 1), (8, 32, 8, 1)),
}
WITHOUT_BIAS = {(32, True): ((4, 32, 1, 3), (4, 32, 2, 3), (4, 32, 1, 3))}


@cache
def plan(kernel_size: int, head_dim: int, dtype: torch.dtype, bias: bool) -> Plan:
    """The configurations of a call."""
    size = next(size for size in (32, 64, 128) if head_dim <= size)
    columns = 16 if TILE_X + kernel_size - 1 <= 16 else 8
    least = _power_of_two(kernel_size // 2 + 1)  # a tile of queries has more than K // 2 rows: see `triton_tiles`
    key, kernels = (size, dtype != torch.float32), {}
    measured = MEASURED[key] if bias else WITHOUT_BIAS.get(key, MEASURED[key])
    for name, (tile_y, pixels, warps, stages) in zip(Plan._fields, measured, strict=True):
        if name != "keys" and tile_y < least:
            tile_y, warps = least, max(warps, 4)
        kernels[name] = Configuration(tile_y, TILE_X, pixels // columns, columns, warps, stages)
    return Plan(**kernels)


class Window(NamedTuple):
    """The options of a call."""

    kernel_size: int
    dilation: int
    scale: float


class Saved(NamedTuple):
    """What the kernels of the backward pass read; `bias` is expanded."""

    g: Tensor
    y: Tensor
    sums: Tensor
    bias: Tensor | None
    q: Tensor
    k: Tensor
    v: Tensor


class Table(NamedTuple):
    """Shape of a head's expanded bias: rows of keys for a tile of queries, start of the part for keys, and size."""

    rows: int
    offset: int
    size: int


@cache
def table_shape(kernel_size: int, plan: Plan) -> Table:
    """The expanded bias that serves all kernels of a plan."""
    queries, keys = plan.queries, plan.keys
    blocks = [(_blocks(each.tile_y, kernel_size, each.rows), each.rows) for each in (plan.forward, queries)]
    rows = max(count * size for count, size in blocks)
    offset = (
        queries.tile_y * queries.tile_x * rows * _blocks(queries.tile_x, kernel_size, queries.columns) * queries.columns
    )
    key_rows = 2 * (keys.tile_y + kernel_size - 2) + keys.rows
    key_columns = ((keys.tile_x + kernel_size + kernel_size // 2 - 2) // keys.columns + 2) * keys.columns
    return Table(rows, offset, offset + key_rows * keys.tile_x * key_columns)


def table_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype of the expanded bias for q, k and v of `dtype`. The bias of bfloat16 fits: float16 has three bits more."""
    return torch.float32 if dtype == torch.float32 else torch.float16


def expand(bias: Tensor, dtype: torch.dtype, kernel_size: int, plan: Plan) -> Tensor:
    """The expanded bias [heads, size] for q, k and v of `dtype`."""
    queries, keys, heads = plan.queries, plan.keys, bias.shape[0]
    rows, offset, size = table_shape(kernel_size, plan)
    table = torch.empty((heads, size), dtype=table_dtype(dtype), device=bias.device)

    def call() -> Call:
        constants = (kernel_size, *queries[:4], rows, keys.tile_y, keys.tile_x, keys.columns, offset, size, CELLS)
        return Call(triton_bias.expand, (heads, _cdiv(size, CELLS), 1), (), constants, warps=4)

    launch(("expand", kernel_size, plan, heads, bias.dtype, dtype), (bias.contiguous(), table), call)
    return table


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, window: Window, plan: Plan) -> tuple[Tensor, Tensor]:
    """Output, and the binary logarithm of the softmax denominators [B,heads,H,W]; `bias` is expanded."""
    batch, height, width, heads, _ = q.shape
    y = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    sums = torch.empty((batch, heads, height, width), dtype=torch.float32, device=q.device)
    _attention("forward", (q, k, v), (sums if bias is None else bias, y, sums), bias, window, plan)
    return y, sums


def query_gradients(saved: Saved, window: Window, plan: Plan, partial: Tensor | None) -> tuple[Tensor, Tensor]:
    """dQ, and delta [B,heads,H,W]: the sum of output times gradient; `partial` gets sums of dS, see `new_partial`."""
    g, y, sums, bias, q, k, v = saved
    dq, delta = torch.empty(q.shape, dtype=q.dtype, device=q.device), torch.empty_like(sums)
    tensors = (sums if bias is None else bias, y, sums, dq, delta, sums if partial is None else partial)
    _attention("queries", (q, k, v, g), tensors, bias, window, plan, partial)
    return dq, delta


def key_gradients(saved: Saved, delta: Tensor, window: Window, plan: Plan) -> tuple[Tensor, Tensor]:
    """dK and dV."""
    g, _, sums, bias, q, k, v = saved
    dk, dv = (torch.empty(q.shape, dtype=q.dtype, device=q.device) for _ in range(2))
    tensors = (sums if bias is None else bias, sums, delta, dk, dv)
    _attention("keys", (q, k, v, g), tensors, bias, window, plan)
    return dk, dv


def new_partial(q: Tensor, window: Window, plan: Plan) -> Tensor:
    """Zeros [chunks,heads,pairs], for the sums of dS over a chunk of tiles and all pairs of a tile and its blocks."""
    heads, chosen = q.shape[3], plan.queries
    blocks = _blocks(chosen.tile_y, window.kernel_size, chosen.rows)
    blocks *= _blocks(chosen.tile_x, window.kernel_size, chosen.columns)
    pairs, tiles = blocks * chosen.tile_y * chosen.tile_x * chosen.rows * chosen.columns, _count(q, window, chosen)[0]
    steps = _cdiv(tiles, max(1, min(PROGRAMS, PARTIAL_BYTES // (4 * pairs)) // heads))
    return torch.zeros((_cdiv(tiles, steps), heads, pairs), dtype=torch.float32, device=q.device)


def bias_gradient(partial: Tensor, window: Window, plan: Plan, dtype: torch.dtype) -> Tensor:
    """The gradient of the bias [heads,2K-1,2K-1]."""
    kernel_size, side, heads = window.kernel_size, 2 * window.kernel_size - 1, partial.shape[1]
    dbias = torch.empty((heads, side, side), dtype=dtype, device=partial.device)

    def call() -> Call:
        constants = (kernel_size, *plan.queries[:4], _power_of_two(side))
        return Call(triton_bias.gather_bias_gradients, (heads, side, 1), (), constants, warps=4)

    launch(("gather", kernel_size, plan, heads, dtype), (partial.sum(0), dbias), call)
    return dbias


def specialized(
    kernel: str, window: int, head_dim: int, bias: bool, align: int, unit: bool, plan: Plan, summed: bool = False
) -> tuple[Any, dict[str, Any], Configuration]:
    """A kernel's function, the constants that it is compiled for, and its configuration."""
    chosen: Configuration = getattr(plan, kernel)
    padded = max(16, _power_of_two(head_dim))  # matrix products need a power of two, and at least 16
    table = table_shape(window, plan)
    constants = {"K": window, "D": head_dim, "PADDED": padded, "ALIGN": align, "UNIT": unit, "HAS_BIAS": bias}
    constants |= dict(zip(("TILE_Y", "TILE_X", "ROWS", "COLUMNS"), chosen, strict=False))
    constants |= {"TABLE_ROWS": table.rows, "TABLE_OFFSET": table.offset, "TABLE_SIZE": table.size, "SUMMED": summed}
    function = FUNCTIONS[kernel]
    return function, {name: constants[name] for name in function.arg_names if name in constants}, chosen


def _attention(
    kernel: str,
    strided: tuple[Tensor, ...],
    tensors: tuple[Tensor, ...],
    bias: Tensor | None,
    window: Window,
    plan: Plan,
    partial: Tensor | None = None,
) -> None:
    """Launch one of `FUNCTIONS` with both tuples of tensors, and the strides of the first."""
    q, strides = strided[0], tuple([x.stride() for x in strided])
    chunks = 0 if partial is None else partial.shape[0]

    def call() -> Call:
        _, height, width, heads, head_dim = q.shape
        align, unit = _alignment(strided, strides)
        options = (kernel, window.kernel_size, head_dim, bias is not None, align, unit, plan, chunks > 0)
        function, constants, chosen = specialized(*options)
        numbers = [window.scale, heads, height, width, window.dilation]
        programs = _grid(q.shape, window.dilation, chosen)
        if kernel == "queries":
            tiles = _count(q, window, chosen)
            numbers += tiles
            programs = (heads * (chunks or tiles[0]), 1, 1)
        for batch, row, column, head, channel in strides:
            numbers += (batch // align, row // align, column // align, head // align, channel)
        return Call(function, programs, numbers, tuple(constants.values()), chosen.warps, chosen.stages)

    key = (kernel, window, plan, q.shape, strides, q.dtype, bias is not None, chunks)
    launch(key, strided + tensors, call)


def _alignment(tensors: tuple[Tensor, ...], strides: tuple[tuple[int, ...], ...]) -> tuple[int, bool]:
    """Elements that addresses and strides are multiples of, and whether all channels are contiguous."""
    size = tensors[0].element_size()
    bits = WIDEST_ACCESS // size
    for x, (batch, row, column, head, channel) in zip(tensors, strides, strict=True):
        if channel != 1:
            return 1, False
        bits |= x.data_ptr() // size | batch | row | column | head
    return bits & -bits, True


def _grid(shape: torch.Size, dilation: int, chosen: Configuration) -> tuple[int, int, int]:
    """Programs: tiles, dilation groups and heads along x; tiles and dilation groups along y; images."""
    batch, height, width, heads, _ = shape
    if batch > MOST_IMAGES:
        most = f"at most {MOST_IMAGES} images in a call, not {batch}; split the batch"
        raise ValueError(f"neighborhood attention: the kernel 'triton' takes {most}")
    tiles_y, tiles_x = _tiles(height, dilation, chosen.tile_y), _tiles(width, dilation, chosen.tile_x)
    return heads * dilation * tiles_x, dilation * tiles_y, batch


def _count(q: Tensor, window: Window, chosen: Configuration) -> tuple[int, int, int]:
    """Tiles of a head in all images, and tiles along each axis of a dilation group."""
    batch, height, width, *_ = q.shape
    tiles_y, tiles_x = (_tiles(height, window.dilation, chosen.tile_y), _tiles(width, window.dilation, chosen.tile_x))
    return batch * window.dilation**2 * tiles_y * tiles_x, tiles_y, tiles_x


def _tiles(length: int, dilation: int, tile: int) -> int:
    """Tiles of the longest dilation group of an axis."""
    return _cdiv(_cdiv(length, dilation), tile)


def _blocks(tile: int, kernel_size: int, block: int) -> int:
    """Blocks of keys along an axis that the queries of a tile attend to."""
    return _cdiv(tile + kernel_size - 1, block)


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


def _power_of_two(a: int) -> int:
    return 1 << (a - 1).bit_length()
