"""Launches of the Triton kernels of neighborhood attention, and their measured configurations.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143. A kernel is compiled once for each window, head size, dtype,
alignment and presence of a bias; map sizes, strides and dilations are integers at run time.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from blocks.ops.neighborhood_attention import triton_backward, triton_bias, triton_forward

WIDEST_ACCESS = 16  # bytes that a thread loads at once
PROGRAMS = 256  # of the kernel of bias gradients: its partial sums take 32 KB each
CELLS = 1024  # of the expanded bias per program
CHUNKS = 8  # of partial sums that are loaded at once
MOST_IMAGES = 65535  # of CUDA's third grid axis


FUNCTIONS = {
    "forward": triton_forward.forward,
    "queries": triton_backward.query_gradients,
    "keys": triton_backward.key_gradients,
    "bias": triton_bias.bias_gradients,
}


class Configuration(NamedTuple):
    """Tile of pixels that a program computes, block of pixels per step, warps per program, and pipeline stages."""

    tile_y: int
    tile_x: int
    rows: int
    columns: int
    warps: int
    stages: int


class Window(NamedTuple):
    """The options of a call."""

    kernel_size: int
    dilation: int
    scale: float


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


def _power_of_two(a: int) -> int:
    return 1 << (a - 1).bit_length()


def configurations(kernel: str, kernel_size: int, head_dim: int, dtype: torch.dtype, bias: bool) -> Configuration:
    return Configuration(8, 8, 2, 16, 4, 2) if kernel != "bias" else Configuration(8, 8, 8, 16, 8, 2)


def alignment(*tensors: Tensor) -> int:
    """Elements that pointers and strides of all tensors are multiples of; at most `WIDEST_ACCESS`."""
    bits = WIDEST_ACCESS
    for x in tensors:
        if x.stride(4) != 1:
            return 1
        size = x.element_size()
        bits |= x.data_ptr()
        for stride in x.stride()[:4]:
            bits |= stride * size
    return max(1, (bits & -bits) // tensors[0].element_size())


def strides(align: int, *tensors: Tensor) -> list[int]:
    """Strides of batch, row, column, head (in units of `align` elements) and channel."""
    numbers = []
    for x in tensors:
        *outer, channel = x.stride()
        numbers += [*(stride // align for stride in outer), channel]
    return numbers


def grid(shape: torch.Size, dilation: int, chosen: Configuration) -> tuple[int, int, int]:
    """Programs: tiles, dilation groups and heads along x; tiles and dilation groups along y; images.

    Raises:
        ValueError: There are more images than the grid has room for.
    """
    batch, height, width, heads, _ = shape
    if batch > MOST_IMAGES:
        most = f"at most {MOST_IMAGES} images in a call, not {batch}; split the batch"
        raise ValueError(f"neighborhood attention: the kernel 'triton' takes {most}")
    tiles_y, tiles_x = num_tiles(height, dilation, chosen.tile_y), num_tiles(width, dilation, chosen.tile_x)
    return heads * dilation * tiles_x, dilation * tiles_y, batch


def num_tiles(length: int, dilation: int, tile: int) -> int:
    """Tiles of the longest dilation group of an axis."""
    return _cdiv(_cdiv(length, dilation), tile)


def blocks(tile: int, kernel_size: int, block: int) -> int:
    """Blocks of keys along an axis that the queries of a tile attend to."""
    return _cdiv(tile + kernel_size - 1, block)


def expanded(bias: Tensor, kernel_size: int, chosen: Configuration) -> Tensor:
    """The bias table for tiles of queries."""
    tile_y, tile_x, block_rows, columns, *_ = chosen
    rows = blocks(tile_y, kernel_size, block_rows) * block_rows + tile_y - 1
    columns *= blocks(tile_x, kernel_size, columns)
    return _expand(bias, kernel_size, rows, tile_x, columns, tile_y - 1 + kernel_size // 2, kernel_size // 2, 1)


def expanded_for_keys(bias: Tensor, kernel_size: int, chosen: Configuration) -> Tensor:
    """The bias table for tiles of keys."""
    tile_y, tile_x, block_rows, columns, *_ = chosen
    reach = tile_y + kernel_size - 2
    offset = kernel_size // 2 + columns
    columns *= (tile_x + kernel_size + kernel_size // 2 - 2) // columns + 2
    return _expand(bias, kernel_size, 2 * reach + block_rows, tile_x, columns, reach, offset, -1)


def _expand(
    bias: Tensor, kernel_size: int, rows: int, tile_x: int, columns: int, row_offset: int, column_offset: int, sign: int
) -> Tensor:
    heads, cells = bias.shape[0], rows * tile_x * columns
    table = torch.empty((heads, cells), dtype=torch.float32, device=bias.device)
    triton_bias.expand[(heads, _cdiv(cells, CELLS))](
        bias.contiguous(), table, row_offset, column_offset, sign, kernel_size, rows, tile_x, columns, CELLS
    )
    return table


@cache
def specialized(
    kernel: str,
    kernel_size: int,
    head_dim: int,
    dtype: torch.dtype,
    bias: bool,
    align: int,
    unit: bool,
    chosen: Configuration | None = None,
) -> tuple[Any, dict[str, Any], Configuration]:
    """A kernel's function, the constants that it is compiled for, and its configuration."""
    chosen = chosen or configurations(kernel, kernel_size, head_dim, dtype, bias)
    tile_y, tile_x, rows, columns, *_ = chosen
    padded = max(16, _power_of_two(head_dim))  # matrix products need a power of two, and at least 16
    constants = {"K": kernel_size, "D": head_dim, "PADDED": padded, "ALIGN": align, "UNIT": unit}
    constants |= {"TILE_Y": tile_y, "TILE_X": tile_x, "ROWS": rows, "COLUMNS": columns}
    if kernel != "bias":
        constants["HAS_BIAS"] = bias
    return FUNCTIONS[kernel], constants, chosen


def _specialized(
    kernel: str, window: Window, bias: Tensor | None, chosen: Configuration | None, *tensors: Tensor
) -> tuple[Any, dict[str, Any], Configuration, list[int]]:
    """`specialized` for a call, with the options of the launch, and the strides of the tensors."""
    q, align = tensors[0], alignment(*tensors)
    unit = all(x.stride(4) == 1 for x in tensors)
    function, constants, chosen = specialized(
        kernel, window.kernel_size, q.shape[-1], q.dtype, bias is not None, align, unit, chosen
    )
    options = {"num_warps": chosen.warps, "num_stages": chosen.stages, "enable_fp_fusion": True}
    return function, constants | options, chosen, strides(align, *tensors)


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, window: Window, chosen: Configuration | None = None
) -> tuple[Tensor, Tensor]:
    """Output, and the binary logarithm of the softmax denominators [B,heads,H,W]."""
    batch, height, width, heads, _ = q.shape
    function, options, chosen, numbers = _specialized("forward", window, bias, chosen, q, k, v)
    y = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    sums = torch.empty((batch, heads, height, width), dtype=torch.float32, device=q.device)
    table = sums if bias is None else expanded(bias, window.kernel_size, chosen)
    function[grid(q.shape, window.dilation, chosen)](
        q, k, v, table, y, sums, window.scale, heads, height, width, window.dilation, *numbers, **options
    )
    return y, sums


class Saved(NamedTuple):
    """What the kernels of the backward pass read."""

    g: Tensor
    y: Tensor
    sums: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor | None


def query_gradients(saved: Saved, window: Window, chosen: Configuration | None = None) -> tuple[Tensor, Tensor]:
    """dQ, and delta [B,heads,H,W]: the sum of output times gradient."""
    g, y, sums, q, k, v, bias = saved
    _, height, width, heads, _ = q.shape
    function, options, chosen, numbers = _specialized("queries", window, bias, chosen, q, k, v, g)
    dq, delta = torch.empty(q.shape, dtype=q.dtype, device=q.device), torch.empty_like(sums)
    table = sums if bias is None else expanded(bias, window.kernel_size, chosen)
    function[grid(q.shape, window.dilation, chosen)](
        q, k, v, g, table, y, sums, dq, delta, window.scale, heads, height, width, window.dilation, *numbers, **options
    )
    return dq, delta


def key_gradients(
    saved: Saved, delta: Tensor, window: Window, chosen: Configuration | None = None
) -> tuple[Tensor, Tensor]:
    """dK and dV."""
    g, _, sums, q, k, v, bias = saved
    _, height, width, heads, _ = q.shape
    function, options, chosen, numbers = _specialized("keys", window, bias, chosen, q, k, v, g)
    dk, dv = (torch.empty(q.shape, dtype=q.dtype, device=q.device) for _ in range(2))
    table = sums if bias is None else expanded_for_keys(bias, window.kernel_size, chosen)
    function[grid(q.shape, window.dilation, chosen)](
        q, k, v, g, table, sums, delta, dk, dv, window.scale, heads, height, width, window.dilation, *numbers, **options
    )
    return dk, dv


def bias_gradient(saved: Saved, delta: Tensor, window: Window, chosen: Configuration | None = None) -> Tensor:
    """The gradient of the bias table."""
    g, _, sums, q, k, v, bias = saved
    assert bias is not None
    batch, height, width, heads, _ = q.shape
    kernel_size, dilation, scale = window
    function, options, chosen, numbers = _specialized("bias", window, bias, chosen, q, k, v, g)
    tile_y, tile_x, rows, columns, *_ = chosen
    tiles_y, tiles_x = num_tiles(height, dilation, tile_y), num_tiles(width, dilation, tile_x)
    tiles = batch * dilation**2 * tiles_y * tiles_x
    num_blocks = blocks(tile_y, kernel_size, rows) * blocks(tile_x, kernel_size, columns)
    tiles_per_chunk = _cdiv(tiles, max(1, PROGRAMS // (heads * num_blocks)))
    chunks = _cdiv(tiles, tiles_per_chunk)
    cells = tile_y * tile_x * rows * columns
    partial = torch.empty((chunks, heads * num_blocks, cells), dtype=torch.float32, device=q.device)
    table = expanded(bias, kernel_size, chosen)
    function[(heads * num_blocks, chunks)](
        q, k, v, g, table, sums, delta, partial, scale, heads, height, width, dilation,
        tiles, tiles_y, tiles_x, tiles_per_chunk, *numbers, **options,
    )  # fmt: skip
    side = 2 * kernel_size - 1
    dbias = torch.empty(bias.shape, dtype=bias.dtype, device=bias.device)
    triton_bias.sum_bias_gradients[(heads, side)](
        partial, dbias, heads, chunks, kernel_size, tile_y, tile_x, rows, columns, CHUNKS, _power_of_two(side)
    )
    return dbias
