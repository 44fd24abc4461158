"""Functions that the Triton kernels of neighborhood attention share: tiles, windows, logits and memory accesses.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1; dilated: DiNAT, https://arxiv.org/abs/2209.15001.

A program computes a tile of TILE_Y x TILE_X pixels of one head, one image and one dilation group. Pixel i of a group is
pixel `group + dilation * i` of the map, so that a dilation is only a stride. The other pixels that the tile needs are
loaded in blocks of ROWS x COLUMNS. The logits of a tile and a block are one matrix product; pairs of pixels outside the
window are masked.

The queries of a tile attend to keys from K // 2 before its first query to K // 2 after its last one. Windows that are
shifted inwards at the end of a group would reach further back if only K // 2 queries of the tile or fewer were inside
the map. The last tile therefore begins earlier if needed; queries that two tiles share are stored by the first only.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)  # logits are computed in units of log 2, for exp2
STRIDES = [f"{tensor}_{axis}" for tensor in "qkvg" for axis in ("batch", "row", "column", "head", "channel")]
AT_RUN_TIME = ["heads", "height", "width", "dilation", *STRIDES]
"""Integers that nothing is compiled for, also if they are 1 or multiples of 16."""
SPLIT = tl.constexpr(64)
"""Up to so many channels, float32 factors are sums of two TF32 numbers: three products, with the errors of float32."""
HIDDEN = tl.constexpr(-1e30)  # a logit outside the window; finite, so that the difference of two is defined


@triton.jit
def locate(heads, height, width, dilation):
    """Head, image, and on each axis dilation group, tile and length of the group; see `grid` in `triton_launch`."""
    column, row = tl.program_id(0), tl.program_id(1)
    head = column % heads
    column = column // heads
    group_y, tile_y = row % dilation, row // dilation
    group_x, tile_x = column % dilation, column // dilation
    length_y, length_x = group_length(height, group_y, dilation), group_length(width, group_x, dilation)
    return head, tl.program_id(2), group_y, tile_y, length_y, group_x, tile_x, length_x


@triton.jit
def group_length(length, group, dilation):
    """Pixels of a dilation group."""
    return (length - group + dilation - 1) // dilation


@triton.jit
def first_query(tile, length, K: tl.constexpr, TILE: tl.constexpr):
    """The first query of a tile, such that more than K // 2 queries from there on are inside the map."""
    return tl.minimum(tile * TILE, length - K // 2 - 1)


@triton.jit
def window_start(i, length, K: tl.constexpr):
    """The first key that query i attends to."""
    return tl.minimum(tl.maximum(i - K // 2, 0), length - K)


@triton.jit
def in_window(key, start, K: tl.constexpr):
    """Whether a key is one of the K from `start` on; as an unsigned number, a negative distance is large."""
    return (key - start).to(tl.uint32, bitcast=True) < K


@triton.jit
def pixel_offsets(y, x, group_y, group_x, dilation, row_stride, column_stride):
    """Offsets of pixels of a dilation group."""
    return (group_y + dilation * y) * row_stride + (group_x + dilation * x) * column_stride


@triton.jit
def load_pixels(pointer, offsets, channel_stride, inside, D: tl.constexpr, PADDED: tl.constexpr, UNIT: tl.constexpr):
    """Channels of pixels [pixels, PADDED]; zeros for pixels outside the map and for channels from D on."""
    channel = tl.arange(0, PADDED)
    if UNIT:
        pointers = pointer + offsets[:, None] + channel[None, :]
    else:
        pointers = pointer + offsets[:, None] + channel[None, :] * channel_stride
    mask = inside[:, None]
    if D < PADDED:
        mask = mask & (channel < D)[None, :]
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def store_pixels(pointer, offsets, values, inside, D: tl.constexpr, PADDED: tl.constexpr):
    """Write the channels of pixels."""
    channel = tl.arange(0, PADDED)
    mask = inside[:, None]
    if D < PADDED:
        mask = mask & (channel < D)[None, :]
    tl.store(pointer + offsets[:, None] + channel[None, :], values.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def product(a, b, PADDED: tl.constexpr):
    """Matrix product of factors whose pixels have PADDED channels, with float32 sums."""
    return tl.dot(a, b, input_precision="tf32x3" if PADDED <= SPLIT else "ieee")


@triton.jit
def product_add(a, b, total, PADDED: tl.constexpr):
    """`total` plus the matrix product."""
    return tl.dot(a, b, total, input_precision="tf32x3" if PADDED <= SPLIT else "ieee")


@triton.jit
def load_bias(pointer, M: tl.constexpr, N: tl.constexpr):
    """The bias of M queries and N keys, stored in the order of `triton_bias.expand`.

    That is the order in which the threads of a tensor core's accumulator hold it: each loads its own values at once.
    """
    values = tl.load(pointer + tl.arange(0, M * N))
    if pointer.dtype.element_ty == tl.float32:
        values = tl.reshape(values, (N // 16, 2, M // 16, 8, 4, 2, 2))
        values = tl.permute(values, (2, 1, 3, 0, 5, 4, 6))
    else:
        values = tl.reshape(values, (N // 16, M // 16, 8, 4, 2, 2, 2))
        values = tl.permute(values, (1, 4, 2, 0, 5, 3, 6))
    return tl.reshape(values, (M, N)).to(tl.float32)
