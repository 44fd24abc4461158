"""Neighborhood attention on CPUs in C++, which computes only the products inside a window.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1; dilated: DiNAT, https://arxiv.org/abs/2209.15001.
`compiled.cpp` documents the algorithm; this file calls it.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops import native
from blocks.ops.neighborhood_attention.lane_layout import (
    LANES,
    LaneLayout,
    bias_by_position,
    bias_gradient,
    lane_layout,
)
from blocks.ops.neighborhood_attention.tiles import check_map
from blocks.ops.neighborhood_attention.windows import ARGUMENTS
from blocks.ops.operators import differentiable_operator
from registry import Kernel

SOURCE = Path(__file__).with_suffix(".cpp")
LARGEST_WINDOW = 31
DTYPES = (torch.float32, torch.bfloat16)


class Map(ctypes.Structure):
    """A tensor [B,H,W,heads,d] with contiguous channels."""

    _fields_ = [("data", ctypes.c_void_p), *((name, ctypes.c_int64) for name in ("batch", "row", "column", "head"))]

    @classmethod
    def of(cls, x: Tensor) -> Map:
        if x.dtype != torch.float32:
            raise TypeError(f"the compiled functions read float32, not {x.dtype}")
        return cls(x.data_ptr(), *x.stride()[:4])


class Call(ctypes.Structure):
    """Arguments of the compiled functions; the same struct as in `compiled_rows.h`."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "height", "width", "heads", "dim")),
        *((name, ctypes.c_int64) for name in ("kernel_size", "dilation", "threads", "positions", "pitch")),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in LaneLayout._fields),
        *((name, Map) for name in ("q", "k", "v", "y", "grad", "dq", "dk", "dv")),
        *((name, ctypes.c_void_p) for name in ("bias", "dbias", "scratch")),
        ("scratch_size", ctypes.c_int64),
    ]


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, kernel_size: int, dilation: int, scale: float
) -> Float[Tensor, "b h w n d"]:
    """Neighborhood attention."""
    if q.dtype == torch.bfloat16:
        if multiplies_bfloat16(q.shape[-1], kernel_size):
            return _attend_in_bfloat16(q, k, v, bias, kernel_size, dilation, scale)
        return attend(q.float(), k.float(), v.float(), bias, kernel_size, dilation, scale).bfloat16()
    layout = lane_layout(q.shape[2], kernel_size, dilation)
    y = _new(q.shape)
    q, k, v = (_with_contiguous_channels(x) for x in (q, k, v))
    call = _call(q, layout, kernel_size, dilation, scale)
    table = None if bias is None else bias_by_position(bias, layout, kernel_size)
    size = _ring_size(call) + 2 * call.dim * (call.positions + LANES) + 2 * LANES * kernel_size**2
    scratch = _scratch(call, size)
    call.q, call.k, call.v, call.y = (Map.of(x) for x in (q, k, v, y))
    call.scratch, call.bias = scratch.data_ptr(), None if table is None else table.data_ptr()
    native.library(SOURCE).neighborhood_attention(ctypes.byref(call))
    return y


@cache
def multiplies_bfloat16(dim: int, kernel_size: int) -> bool:
    """Whether the products of heads of `dim` channels are computed in bfloat16, not converted to float32 before."""
    has_instructions = hasattr(native.library(SOURCE), "neighborhood_attention_bfloat16")
    return has_instructions and dim % (2 * LANES) == 0 and kernel_size > 1


def _attend_in_bfloat16(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, kernel_size: int, dilation: int, scale: float
) -> Float[Tensor, "b h w n d"]:
    """Neighborhood attention whose C++ reads and writes words of two channels."""
    layout = lane_layout(q.shape[2], kernel_size, dilation)
    y = torch.empty(q.shape, dtype=torch.bfloat16, device="cpu")
    q, k, v = (_words(x) for x in (q, k, v))
    call = _call(q, layout, kernel_size, dilation, scale)
    table = None if bias is None else bias_by_position(bias, layout, kernel_size)
    size = (kernel_size + 1) * call.dim * (3 * call.positions + call.pitch)  # rings of keys and of pairs of values
    size += call.dim * (3 * call.positions + 1 + 2 * LANES)
    scratch = _scratch(call, size + LANES * kernel_size * (2 * kernel_size + (kernel_size + 1) // 2))
    call.q, call.k, call.v, call.y = (Map.of(x) for x in (q, k, v, y.view(torch.float32)))
    call.scratch, call.bias = scratch.data_ptr(), None if table is None else table.data_ptr()
    native.library(SOURCE).neighborhood_attention_bfloat16(ctypes.byref(call))
    return y


def _words(x: Tensor) -> Float[Tensor, "b h w n d/2"]:
    """Pairs of channels as words of 32 bits, without a copy where strides allow it."""
    fits = x.stride(-1) == 1 and not any(step % 2 for step in (*x.stride()[:-1], x.storage_offset()))
    return (x if fits else x.contiguous()).view(torch.float32)


def attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, kernel_size: int, dilation: int, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of queries, keys, values and bias; the last is a scalar without meaning if there is no bias."""
    if q.dtype == torch.bfloat16:
        wide = (grad.float(), q.float(), k.float(), v.float())
        dq, dk, dv, dbias = attend_backward(*wide, bias, kernel_size, dilation, scale)
        return dq.bfloat16(), dk.bfloat16(), dv.bfloat16(), dbias
    layout = lane_layout(q.shape[2], kernel_size, dilation)
    dq, dk, dv = (_new(q.shape) for _ in range(3))
    grad, q, k, v = (_with_contiguous_channels(x) for x in (grad, q, k, v))
    call = _call(q, layout, kernel_size, dilation, scale)
    rows = 2 * kernel_size  # rows of queries that attend to a row of keys, and one more
    size = _ring_size(call) + 2 * rows * call.positions * (call.dim + kernel_size**2) + 4 * call.dim * LANES
    scratch = _scratch(call, size)
    call.q, call.k, call.v, call.grad, call.dq, call.dk, call.dv = (Map.of(x) for x in (q, k, v, grad, dq, dk, dv))
    call.scratch = scratch.data_ptr()
    dbias = _new(())
    if bias is not None:
        table = bias_by_position(bias, layout, kernel_size)
        dbias = table.new_zeros(call.threads, *table.shape)
        call.bias, call.dbias = table.data_ptr(), dbias.data_ptr()
    native.library(SOURCE).neighborhood_attention_gradients(ctypes.byref(call))
    return dq, dk, dv, dbias if bias is None else bias_gradient(dbias.sum(0), layout, kernel_size).to(bias.dtype)


def _new(shape: tuple[int, ...]) -> Tensor:
    # dtype and device are what the C++ writes, whatever torch's defaults are
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _scratch(call: Call, size: int) -> Tensor:
    call.scratch_size = -(-size // LANES) * LANES
    return torch.zeros(call.threads, call.scratch_size, dtype=torch.float32, device="cpu")


def _ring_size(call: Call) -> int:
    """Floats in a thread's ring buffers of keys and values, the structs `Ring` of `compiled_rows.h`."""
    return int(2 * (call.kernel_size + 1) * call.dim * (call.positions + call.pitch))


def _with_contiguous_channels(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _call(q: Tensor, layout: LaneLayout, kernel_size: int, dilation: int, scale: float) -> Call:
    names = ("batch", "height", "width", "heads", "dim")
    call = Call(**dict(zip(names, q.shape, strict=True)), kernel_size=kernel_size, dilation=dilation, scale=scale)
    call.threads = torch.get_num_threads()
    call.positions = layout.column.shape[0]
    call.pitch = call.positions + LANES + kernel_size  # the load of the last window may extend past the row
    for name, table in layout._asdict().items():
        setattr(call, name, table.data_ptr())
    return call


compiled = differentiable_operator("compiled", ARGUMENTS, attend, attend_backward, device="CPU")


class Compiled(Kernel):
    """C++ for CPUs, compiled on first use; no second derivative.

    bfloat16 is multiplied as such where the processor has AVX512-BF16 and heads have a multiple of 32 channels.
    Otherwise, and for gradients, it is converted to float32.
    """

    op, name, priority, compiles = "neighborhood_attention", "compiled", 45, True
    enable = native.ENABLE

    def unavailable(self) -> str | None:
        return native.unavailable(SOURCE)

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, kernel_size: int, bias: Tensor | None = None, **_: object
    ) -> list[str]:
        reasons = []
        tensors = [x for x in (q, k, v, bias) if x is not None]
        if any(x.device.type not in ("cpu", "meta") for x in tensors):  # on meta, estimates of memory
            reasons.append(f"runs on CPUs only, not on {q.device.type}")
        dtypes = {x.dtype for x in (q, k, v)}
        if len(dtypes) > 1 or q.dtype not in DTYPES or (bias is not None and bias.dtype not in (q.dtype, DTYPES[0])):
            names = ", ".join(sorted({str(x.dtype) for x in tensors}))
            reasons.append(f"computes in float32 or bfloat16, with a bias in the same or in float32, not {names}")
        if kernel_size > LARGEST_WINDOW:
            reasons.append(f"its windows have up to {LARGEST_WINDOW} x {LARGEST_WINDOW} pixels, not {kernel_size}")
        return reasons

    def run(
        self,
        q: Float[Tensor, "b h w n d"],
        k: Float[Tensor, "b h w n d"],
        v: Float[Tensor, "b h w n d"],
        *,
        kernel_size: int,
        dilation: int = 1,
        bias: Float[Tensor, "n r r"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b h w n d"]:
        check_map(q.shape[1], q.shape[2], kernel_size, dilation)
        scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
        y: Tensor = compiled(q, k, v, bias, kernel_size, dilation, scale)
        return y
