"""The Triton kernel of bias_act: one pass over the map for the value, the slope or the curvature.

Memory is a matrix of rows and columns: pixels and channels of a channels-last map, or channels (of all samples) and
pixels of a contiguous one.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

LINEAR, LRELU, RELU, SWISH = range(4)
VALUE, SLOPE, CURVATURE = range(3)
TILE = 1024  # elements per program: 8 per thread, 16 bytes in 16-bit dtypes


@triton.jit
def by_channel(values, row, column, rows, columns, channels, pixels, CHANNELS_LAST: tl.constexpr, KIND: tl.constexpr):
    """A value per channel (KIND 1), or per sample and channel (KIND 2), for a tile."""
    if CHANNELS_LAST:
        if KIND == 2:
            offset = (row // pixels * columns)[:, None] + column[None, :]
            value = tl.load(values + offset, mask=(row < rows)[:, None] & (column < columns)[None, :], other=0.0)
        else:
            value = tl.load(values + column, mask=column < columns, other=0.0)[None, :]
    else:
        value = tl.load(values + (row if KIND == 2 else row % channels), mask=row < rows, other=0.0)[:, None]
    return value.to(tl.float32)


@triton.jit(do_not_specialize=["rows", "noise_size", "channels", "pixels"])
def pointwise(
    y,
    x,
    bias,
    scale,
    noise,
    first,
    second,
    rows,
    columns,
    channels,
    pixels,
    noise_size,
    slope,
    gain,
    clamp,
    ACTIVATION: tl.constexpr,
    ORDER: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BIAS: tl.constexpr,
    SCALE: tl.constexpr,
    HAS_NOISE: tl.constexpr,
    HAS_CLAMP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """y = f(u) with u = x scale + noise + bias, f = clamp(gain * activation); first f'(u); first second f''(u).

    BIAS and SCALE: 0 for none, 1 for a value per channel, 2 for one per sample and channel.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    offset = row.to(tl.int64)[:, None] * columns + column[None, :]
    u = tl.load(x + offset, mask=inside, other=0.0).to(tl.float32)
    if SCALE > 0:
        u *= by_channel(scale, row, column, rows, columns, channels, pixels, CHANNELS_LAST, SCALE)
    if HAS_NOISE:
        if CHANNELS_LAST:
            u += tl.load(noise + row % noise_size, mask=row < rows, other=0.0).to(tl.float32)[:, None]
        else:
            pixel = ((row // channels)[:, None] * columns + column[None, :]) % noise_size
            u += tl.load(noise + pixel, mask=inside, other=0.0).to(tl.float32)
    if BIAS > 0:
        u += by_channel(bias, row, column, rows, columns, channels, pixels, CHANNELS_LAST, BIAS)
    if ACTIVATION == 0:
        value = u
        derivative = tl.full(u.shape, 1.0, tl.float32)
    elif ACTIVATION == 1:
        derivative = tl.where(u > 0, 1.0, slope)
        value = u * derivative
    elif ACTIVATION == 2:
        derivative = tl.where(u > 0, 1.0, 0.0)
        value = tl.where(u > 0, u, tl.where(u == u, 0.0, u))
    else:
        sigmoid = tl.sigmoid(u)
        value = u * sigmoid
        derivative = sigmoid * (1 + u * (1 - sigmoid))
        if ORDER == 2:
            derivative = sigmoid * (1 - sigmoid) * (2 + u * (1 - 2 * sigmoid))
    value = value * gain
    result = value
    if ORDER == 0:
        if HAS_CLAMP:  # comparisons keep NaN
            result = tl.where(value < -clamp, -clamp, tl.where(value > clamp, clamp, value))
    else:
        result = tl.load(first + offset, mask=inside, other=0.0).to(tl.float32) * derivative * gain
        if ORDER == 2:
            result *= tl.load(second + offset, mask=inside, other=0.0).to(tl.float32)
        if HAS_CLAMP:
            result = tl.where((value >= -clamp) & (value <= clamp), result, 0.0)
    tl.store(y + offset, result.to(y.dtype.element_ty), mask=inside)


def launch(
    y: Tensor,
    x: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    noise: Tensor | None,
    first: Tensor | None,
    second: Tensor | None,
    *,
    channels: int,
    channels_last: bool,
    activation: int,
    order: int,
    slope: float,
    gain: float,
    clamp: float | None,
) -> None:
    """Run the kernel. y, x, first and second have the same dense memory layout; the others are contiguous."""
    columns = channels if channels_last else x.numel() // (x.shape[0] * channels)
    rows = x.numel() // columns
    tile_columns = min(triton.next_power_of_2(columns), TILE)
    tile_rows = min(max(1, TILE // tile_columns), triton.next_power_of_2(rows))
    grid = (triton.cdiv(rows, tile_rows), triton.cdiv(columns, tile_columns))
    pointwise[grid](
        y,
        x,
        bias,
        scale,
        noise,
        first,
        second,
        rows,
        columns,
        channels,
        x.numel() // (x.shape[0] * channels),
        1 if noise is None else noise.numel(),
        slope,
        gain,
        0.0 if clamp is None else clamp,
        ACTIVATION=activation,
        ORDER=order,
        CHANNELS_LAST=channels_last,
        BIAS=0 if bias is None else bias.ndim,
        SCALE=0 if scale is None else scale.ndim,
        HAS_NOISE=noise is not None,
        HAS_CLAMP=clamp is not None,
        ROWS=tile_rows,
        COLUMNS=tile_columns,
        num_warps=4,
    )
