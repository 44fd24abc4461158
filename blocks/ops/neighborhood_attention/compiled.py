"""Neighborhood attention on a processor: each window's own products and no others, in C++ compiled on the spot.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1; dilated: DiNAT, https://arxiv.org/abs/2209.15001.
`compiled.cpp` says how it computes; here is what it is told of a map's width, and how torch calls it.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops import native
from blocks.ops.neighborhood_attention.tiles import check
from blocks.ops.neighborhood_attention.windows import window_starts
from registry import Kernel

SOURCE = Path(__file__).with_suffix(".cpp")
LANES = 16
LARGEST_WINDOW = 31


class Slots(NamedTuple):
    """A row's columns as the lanes of vectors: group after group, with gaps so that each begins at a lane that suits.

    Fields:
        column: The column of each slot, or -1 in a gap.
        start: The slot where the window of each slot begins.
        base: For each vector the slot of the leftmost key that a window begins with.
        lane: For each vector, where each lane finds its key in a load from there.
        straight: For each vector whether each lane finds it in its own place.
        first: The slot of the first query of a row that sees each slot.
        last: The slot of the last.
    """

    column: Tensor
    start: Tensor
    base: Tensor
    lane: Tensor
    straight: Tensor
    first: Tensor
    last: Tensor


@lru_cache(maxsize=256)
def slots_of(width: int, kernel_size: int, dilation: int) -> Slots:
    """The slots of a row."""
    cpu = torch.device("cpu")
    group, place, start = window_starts(width, kernel_size, dilation, cpu)
    longest = -(-width // dilation)
    stride = next((few for few in (4, 8) if longest <= few and few >= kernel_size), -(-longest // LANES) * LANES)
    total = -(-stride * dilation // LANES) * LANES
    slot = group * stride + place

    def of_slots(of_columns: Tensor, gap: int) -> Tensor:
        found = torch.full((total,), gap)
        found[slot] = of_columns
        return found

    column, starts = of_slots(torch.arange(width), -1), of_slots(group * stride + start, 0)
    by_vector, used = starts.view(-1, LANES), (column >= 0).view(-1, LANES)
    base = by_vector.masked_fill(~used, total).amin(1).where(used.any(1), 0)
    lane = (by_vector - base[:, None]).where(used, 0)
    straight = (lane == torch.arange(LANES)).all(1)
    members = (width - group + dilation - 1) // dilation
    first = torch.where(place < kernel_size, 0, place - kernel_size // 2)
    last = torch.where(place >= members - kernel_size, members - 1, place + kernel_size // 2)
    seen = (of_slots(group * stride + end, 0) for end in (first, last))
    return Slots(*(each.to(torch.int32).contiguous() for each in (column, starts, base, lane, straight, *seen)))


class Map(ctypes.Structure):
    """A tensor [B,H,W,heads,d] whose channels lie beside each other."""

    _fields_ = [("data", ctypes.c_void_p), *((name, ctypes.c_int64) for name in ("batch", "row", "column", "head"))]

    @classmethod
    def of(cls, x: Tensor) -> Map:
        return cls(x.data_ptr(), *x.stride()[:4])


class Call(ctypes.Structure):
    """What the compiled functions are told, as in `compiled.cpp`."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("batch", "height", "width", "heads", "dim", "kernel_size", "dilation", "threads")
        ),
        *((name, ctypes.c_int64) for name in ("slots", "pitch")),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in Slots._fields),
        *((name, Map) for name in ("q", "k", "v", "y", "grad", "dq", "dk", "dv")),
        *((name, ctypes.c_void_p) for name in ("bias", "dbias", "scratch")),
        ("room", ctypes.c_int64),
    ]


def bias_of_slots(bias: Float[Tensor, "n r r"], slots: Slots, kernel_size: int) -> Float[Tensor, "n v r k 16"]:
    """What is added to the logits of each vector, for each row of the table and each key of a window's row."""
    return bias.float()[:, :, _places(slots, kernel_size)].permute(0, 2, 1, 4, 3).contiguous()


def gradient_of_slots(sums: Float[Tensor, "n v r k 16"], slots: Slots, kernel_size: int) -> Float[Tensor, "n r r"]:
    """The way back from `bias_of_slots`: gaps give nothing, since they have no weight."""
    side = 2 * kernel_size - 1
    given = sums.permute(0, 2, 1, 4, 3).flatten(2)
    return given.new_zeros(*given.shape[:2], side).index_add_(2, _places(slots, kernel_size).flatten(), given)


def _places(slots: Slots, kernel_size: int) -> Tensor:
    """Which column of the bias table belongs to each slot [v,16] and each key of its window's row [k]."""
    gap = slots.column < 0
    here = torch.arange(len(slots.column))
    first = (slots.start - here + kernel_size - 1).masked_fill(gap, 0).view(-1, LANES)
    return first[..., None] + torch.arange(kernel_size)


def mix(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, kernel_size: int, dilation: int, scale: float
) -> Float[Tensor, "b h w n d"]:
    """Neighborhood attention."""
    slots = slots_of(q.shape[2], kernel_size, dilation)
    y = torch.empty(q.shape)
    q, k, v = (_with_channels_together(x) for x in (q, k, v))
    call = _call(q, slots, kernel_size, dilation, scale)
    table = None if bias is None else bias_of_slots(bias, slots, kernel_size)
    scratch = _scratch(call, _rings(call) + 2 * call.dim * (call.slots + LANES) + 2 * LANES * kernel_size**2)
    call.q, call.k, call.v, call.y = (Map.of(x) for x in (q, k, v, y))
    call.scratch, call.bias = scratch.data_ptr(), None if table is None else table.data_ptr()
    native.library(SOURCE).neighborhood_attention(ctypes.byref(call))
    return y


def gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, kernel_size: int, dilation: int, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of queries, keys, values and bias; the last is empty where there is no bias."""
    slots = slots_of(q.shape[2], kernel_size, dilation)
    dq, dk, dv = (torch.empty(q.shape) for _ in range(3))
    grad, q, k, v = (_with_channels_together(x) for x in (grad, q, k, v))
    call = _call(q, slots, kernel_size, dilation, scale)
    rows = 2 * kernel_size  # of queries: those that see a row of keys, and one
    scratch = _scratch(call, _rings(call) + 2 * rows * call.slots * (call.dim + kernel_size**2) + 4 * call.dim * LANES)
    call.q, call.k, call.v, call.grad, call.dq, call.dk, call.dv = (Map.of(x) for x in (q, k, v, grad, dq, dk, dv))
    call.scratch = scratch.data_ptr()
    dbias = torch.zeros(())
    if bias is not None:
        table = bias_of_slots(bias, slots, kernel_size)
        dbias = table.new_zeros(call.threads, *table.shape)
        call.bias, call.dbias = table.data_ptr(), dbias.data_ptr()
    native.library(SOURCE).neighborhood_attention_gradients(ctypes.byref(call))
    return dq, dk, dv, dbias if bias is None else gradient_of_slots(dbias.sum(0), slots, kernel_size)


def _rings(call: Call) -> int:
    """Floats that a thread keeps of keys and values, which `compiled.cpp` calls `Ring`."""
    return int(2 * (call.kernel_size + 1) * call.dim * (call.slots + call.pitch))


def _scratch(call: Call, room: int) -> Tensor:
    call.room = -(-room // LANES) * LANES
    return torch.zeros(call.threads, call.room)


def _with_channels_together(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _call(q: Tensor, slots: Slots, kernel_size: int, dilation: int, scale: float) -> Call:
    names = ("batch", "height", "width", "heads", "dim")
    call = Call(**dict(zip(names, q.shape, strict=True)), kernel_size=kernel_size, dilation=dilation, scale=scale)
    call.threads = torch.get_num_threads()
    call.slots = len(slots.column)
    call.pitch = call.slots + LANES + kernel_size  # loads may begin at the last window and end behind it
    for name, table in slots._asdict().items():
        setattr(call, name, table.data_ptr())
    return call


CALL = "Tensor q, Tensor k, Tensor v, Tensor? bias, int kernel_size, int dilation, float scale"
compiled = torch.library.custom_op(
    "ganblocks::compiled", mix, mutates_args=(), schema=f"({CALL}) -> Tensor", device_types="cpu"
)
compiled_gradients = torch.library.custom_op(
    "ganblocks::compiled_gradients",
    gradients,
    mutates_args=(),
    schema=f"(Tensor grad, {CALL}) -> (Tensor, Tensor, Tensor, Tensor)",
    device_types="cpu",
)


@compiled.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *_: Any) -> Tensor:
    return v.new_empty(q.shape)


@compiled_gradients.register_fake
def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *_: Any) -> tuple[Tensor, ...]:
    return (*(x.new_empty(x.shape) for x in (q, k, v)), q.new_empty(()) if bias is None else bias.new_empty(bias.shape))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.window = inputs[4:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    dq, dk, dv, dbias = compiled_gradients(grad, *ctx.saved_tensors, *ctx.window)
    return dq, dk, dv, None if ctx.saved_tensors[3] is None else dbias, None, None, None


compiled.register_autograd(_backward, setup_context=_keep)


class Compiled(Kernel):
    """C++ for processors, compiled when first wanted; has no second derivative."""

    op = "neighborhood_attention"
    name = "compiled"
    priority = 45
    enable = native.ENABLE

    def unavailable(self) -> str | None:
        return native.why_not(SOURCE)

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, kernel_size: int, bias: Tensor | None = None, **_: object
    ) -> list[str]:
        reasons = []
        tensors = [x for x in (q, k, v, bias) if x is not None]
        if any(x.device.type != "cpu" for x in tensors):
            reasons.append(f"it runs on the processor, not on {q.device.type}")
        if any(x.dtype != torch.float32 for x in tensors):
            reasons.append(f"it computes in float32, not {', '.join(sorted({str(x.dtype) for x in tensors}))}")
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
        check(q.shape[1], q.shape[2], kernel_size, dilation)
        scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
        y: Tensor = compiled(q, k, v, bias, kernel_size, dilation, scale)
        return y
