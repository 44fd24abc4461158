"""Attention on CPUs in C++; `compiled.cpp` documents the algorithm, this file calls it.

It is for images: its gradients keep the weights of all queries and keys in memory.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.common.autocast import at_least_float32
from blocks.ops import native
from blocks.ops.attention.sdpa import one_dtype
from blocks.ops.operators import operator
from registry import Kernel

SOURCE = Path(__file__).with_suffix(".cpp")
LANES, BLOCK = 16, 32  # as in `compiled.cpp`


class Map(ctypes.Structure):
    """A tensor [B,heads,N,d] with contiguous channels."""

    _fields_ = [("data", ctypes.c_void_p), *((name, ctypes.c_int64) for name in ("batch", "head", "token"))]


class Call(ctypes.Structure):
    """Arguments of the compiled functions; the same struct as in `compiled.cpp`."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "heads", "queries", "keys", "dim", "threads")),
        ("scale", ctypes.c_float),
        *((name, Map) for name in ("q", "k", "v", "y")),
        ("scratch", ctypes.c_void_p),
        ("scratch_size", ctypes.c_int64),
    ]


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Float[Tensor, "b h n d"]:
    """Attention in the dtype of q, k and v, which have heads of one size."""
    y = torch.empty(q.shape, dtype=q.dtype, device="cpu")
    if k.shape[2] == 0:
        return y.zero_()
    words = [_words(x) for x in (q, k, v)]
    batch, heads, queries, dim = words[0].shape
    call = Call(batch, heads, queries, k.shape[2], dim, torch.get_num_threads(), scale)
    keys = call.keys + call.keys % 2
    call.scratch_size = keys * dim + BLOCK * (3 * dim + keys)  # pairs of values, queries, sums, logits
    scratch = torch.empty(call.threads, call.scratch_size, dtype=torch.float32, device="cpu")
    call.q, call.k, call.v, call.y = (Map(x.data_ptr(), *x.stride()[:3]) for x in (*words, y.view(torch.float32)))
    call.scratch = scratch.data_ptr()
    getattr(native.library(SOURCE), f"attention_{str(q.dtype).removeprefix('torch.')}")(ctypes.byref(call))
    return y


def _words(x: Tensor) -> Float[Tensor, "b h n w"]:
    """The channels as words of 32 bits, without a copy where strides allow it."""
    per_word = 4 // x.element_size()
    fits = x.stride(-1) == 1 and not any(step % per_word for step in (*x.stride()[:-1], x.storage_offset()))
    return (x if fits else x.contiguous()).view(torch.float32)


def _fake(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    return q.new_empty(q.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.scale = inputs[3]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    dtype = grad.dtype
    q, k, v, grad = (at_least_float32(x) for x in (*ctx.saved_tensors, grad))
    weights = torch.softmax(ctx.scale * q @ k.mT, dim=-1)
    slopes = grad @ v.mT
    slopes = ctx.scale * weights * (slopes - (slopes * weights).sum(-1, keepdim=True))
    return (slopes @ k).to(dtype), (slopes.mT @ q).to(dtype), (weights.mT @ grad).to(dtype), None


SCHEMA = "(Tensor q, Tensor k, Tensor v, float scale) -> Tensor"
derivative: dict[str, Any] = {"backward": _backward, "setup_context": _setup_context}
compiled = operator("attention", SCHEMA, attend, fake=_fake, device="CPU", **derivative)


def multiplies_bfloat16() -> bool:
    """Whether the compiled source computes in bfloat16; also if it cannot be compiled, which `unavailable` reports."""
    return native.unavailable(SOURCE) is not None or hasattr(native.library(SOURCE), "attention_bfloat16")


multiplies_bfloat16._dynamo_marked_constant = True  # type: ignore[attr-defined]  # as _compiled_here in registry.kernels


class Compiled(Kernel):
    """C++ for CPUs with AVX-512 in float32, and with AVX512-BF16 in bfloat16."""

    op, name, priority, second_order, compiles = "attention", "compiled", 20, True, True
    enable = native.ENABLE

    def unavailable(self) -> str | None:
        if reason := native.unavailable(SOURCE):
            return reason
        has_vectors = hasattr(native.library(SOURCE), "attention_float32")
        return None if has_vectors else "its vectors need a processor with AVX-512"

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, scale: float | None = None
    ) -> list[str]:
        reasons = one_dtype(q, k, v)
        if any(x.device.type != "cpu" for x in (q, k, v)):
            reasons.append(f"runs on CPUs only, not on {q.device.type}")
        if q.dtype not in (torch.float32, torch.bfloat16):
            reasons.append(f"computes in float32 and bfloat16, not {q.dtype}")
        whole = LANES * 4 // q.element_size()
        if q.shape[-1] % whole or v.shape[-1] != q.shape[-1]:
            sizes = f"{q.shape[-1]} and {v.shape[-1]}"
            reasons.append(f"needs heads of one size, a multiple of {whole} channels, not {sizes}")
        if bias is not None:
            reasons.append("takes no position bias")
        if not reasons and q.dtype == torch.bfloat16 and not multiplies_bfloat16():  # last, since it compiles
            reasons.append("the processor has no instructions for bfloat16 (AVX512-BF16)")
        return reasons

    def drawbacks(self, q: Tensor, k: Tensor, v: Tensor, **_: object) -> list[str]:
        needs_gradients = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
        return ["its gradients keep the weights of all queries and keys"] if needs_gradients else []

    def run(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m e"],
        *,
        bias: Float[Tensor, "*#h #n #m"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b h n e"]:
        scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
        y: Tensor = compiled(q, k, v, scale)
        return y
