"""The Triton kernel of upfirdn2d: each output value is read from the few pixels under the filter that are no zeros.

Memory is a matrix of rows and columns: pixels and channels of a channels-last map, or rows of pixels and the pixels of
a row in a contiguous one.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

SIZES = ["rows", "height", "width", "out_height", "out_width", "left", "top"]


@triton.jit(do_not_specialize=SIZES)
def resample(
    y,
    x,
    taps,
    rows,
    columns,
    height,
    width,
    out_height,
    out_width,
    left,
    top,
    gain,
    UP_X: tl.constexpr,
    UP_Y: tl.constexpr,
    DOWN_X: tl.constexpr,
    DOWN_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    TAPS_Y: tl.constexpr,
    FLIP: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """y[i, j] = gain * sum of taps[p, q] * upsampled x[DOWN_Y i + p - top, DOWN_X j + q - left]."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    if CHANNELS_LAST:
        out_x = (row % out_width)[:, None]
        image = row // out_width // out_height
        out_y = row // out_width % out_height
    else:
        out_x = column[None, :]
        image = row // out_height
        out_y = row % out_height
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for p in range(TAPS_Y):  # not unrolled: fewer registers, so more threads run at once
        up_y = out_y * DOWN_Y + p - top
        source_y = up_y // UP_Y
        read_y = (up_y >= 0) & (source_y < height) & (source_y * UP_Y == up_y)
        first = (image * height + source_y).to(tl.int64)[:, None] * width
        for q in tl.static_range(TAPS_X):
            up_x = out_x * DOWN_X + q - left
            source_x = up_x // UP_X
            read = read_y[:, None] & (up_x >= 0) & (source_x < width) & (source_x * UP_X == up_x) & inside
            if CHANNELS_LAST:
                offset = (first + source_x) * columns + column[None, :]
            else:
                offset = first + source_x
            index = p * TAPS_X + q if FLIP else TAPS_Y * TAPS_X - 1 - p * TAPS_X - q
            total += tl.load(taps + index).to(tl.float32) * tl.load(x + offset, mask=read, other=0.0).to(tl.float32)
    offset = row.to(tl.int64)[:, None] * columns + column[None, :]
    tl.store(y + offset, (total * gain).to(y.dtype.element_ty), mask=inside)


def tile_size(element_size: int, channels_last: bool) -> int:
    """Elements per program; more would need so many registers that fewer threads run at once."""
    return 1024 if channels_last and element_size == 2 else 512


def launch(
    y: Tensor,
    x: Tensor,
    taps: Tensor,
    *,
    up: tuple[int, int],
    down: tuple[int, int],
    left: int,
    top: int,
    gain: float,
    flip_filter: bool,
    channels_last: bool,
) -> None:
    """Run the kernel on maps [B,C,H,W] that are both channels-last or both contiguous."""
    columns = y.shape[1] if channels_last else y.shape[3]
    rows = y.numel() // columns
    tile = tile_size(x.element_size(), channels_last)
    tile_columns = min(triton.next_power_of_2(columns), 128)
    tile_rows = min(tile // tile_columns, triton.next_power_of_2(rows))
    grid = (triton.cdiv(rows, tile_rows), triton.cdiv(columns, tile_columns))
    resample[grid](
        y,
        x,
        taps,
        rows,
        columns,
        *x.shape[2:],
        *y.shape[2:],
        left,
        top,
        gain,
        UP_X=up[0],
        UP_Y=up[1],
        DOWN_X=down[0],
        DOWN_Y=down[1],
        TAPS_X=taps.shape[1],
        TAPS_Y=taps.shape[0],
        FLIP=flip_filter,
        CHANNELS_LAST=channels_last,
        ROWS=tile_rows,
        COLUMNS=tile_columns,
        num_warps=4,
    )
