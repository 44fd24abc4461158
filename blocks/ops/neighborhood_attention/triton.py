"""Neighborhood attention on GPUs in Triton, forward and backward, with relative position bias and its gradient.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1; dilated: DiNAT, https://arxiv.org/abs/2209.15001.
`triton_tiles` documents the algorithm; this file declares the op and its kernel. Triton is imported when the first
call or the first block looks for kernels on a machine with a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops.neighborhood_attention.tiles import check_map
from blocks.ops.neighborhood_attention.windows import ARGUMENTS, WINDOW
from blocks.ops.operators import LIBRARY
from blocks.ops.triton import DTYPES, INTERPRETED, TritonKernel

LARGEST_WINDOW = 13
LARGEST_HEAD = 128
CAPABILITY = (8, 0)
device_of: Callable[..., Any] = torch.cuda.device_of


@cache
def _launch() -> Any:
    return import_module("blocks.ops.neighborhood_attention.triton_launch")


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, kernel_size: int, dilation: int, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Neighborhood attention, and for the backward pass logarithms of the softmax denominators and expanded bias."""
    launch = _launch()
    if q.numel() == 0:
        return attend_fake(q, k, v, bias, kernel_size, dilation, scale)
    with device_of(q):
        plan = launch.plan(kernel_size, q.shape[-1], q.dtype, bias is not None)
        table = None if bias is None else launch.expand(bias, q.dtype, kernel_size, plan)
        y, sums = launch.attend(q, k, v, table, launch.Window(kernel_size, dilation, scale), plan)
    return y, sums, q.new_empty(0) if table is None else table


def attend_fake(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, kernel_size: int, dilation: int, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Empty tensors with the shapes and dtypes of the results of `attend`."""
    batch, height, width, heads, head_dim = q.shape
    y, sums = q.new_empty(q.shape), q.new_empty((batch, heads, height, width), dtype=torch.float32)
    if bias is None:
        return y, sums, q.new_empty(0)
    launch = _launch()
    window = int(kernel_size)  # a symbol while torch.compile traces dynamic shapes
    size = launch.table_shape(window, launch.plan(window, int(head_dim), q.dtype, True)).size
    return y, sums, q.new_empty((heads, size), dtype=launch.table_dtype(q.dtype))


def attend_backward(
    grad: Tensor,
    y: Tensor,
    sums: Tensor,
    table: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kernel_size: int,
    dilation: int,
    scale: float,
    bias_dtype: torch.dtype | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of queries, keys, values and bias; the last is empty if there is no `bias_dtype`."""
    if q.numel() == 0:
        dq, dk, dv, dbias = backward_fake(grad, y, sums, table, q, k, v, kernel_size, dilation, scale, bias_dtype)
        return dq, dk, dv, dbias.zero_()
    launch = _launch()
    with device_of(q):
        grad = grad if grad.stride(-1) == 1 else grad.contiguous()
        saved = launch.Saved(grad, y, sums, table if table.numel() else None, q, k, v)
        window = launch.Window(kernel_size, dilation, scale)
        plan = launch.plan(kernel_size, q.shape[-1], q.dtype, saved.bias is not None)
        partial = None if bias_dtype is None else launch.new_partial(q, window, plan)
        dq, delta = launch.query_gradients(saved, window, plan, partial)
        dk, dv = launch.key_gradients(saved, delta, window, plan)
        if partial is None:
            return dq, dk, dv, q.new_empty(0)
        return dq, dk, dv, launch.bias_gradient(partial, window, plan, bias_dtype)


def backward_fake(
    grad: Tensor,
    y: Tensor,
    sums: Tensor,
    table: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kernel_size: int,
    dilation: int,
    scale: float,
    bias_dtype: torch.dtype | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Empty tensors with the shapes and dtypes of the results of `attend_backward`."""
    dq, dk, dv = (q.new_empty(q.shape) for _ in range(3))
    side = 2 * kernel_size - 1
    return dq, dk, dv, q.new_empty(0 if bias_dtype is None else (q.shape[3], side, side), dtype=bias_dtype)


class Attention(torch.autograd.Function):
    """The op with its gradients; `forward` computes it, by the op's dispatch or without."""

    @staticmethod
    def forward(ctx: Any, forward: Callable[..., Any], *arguments: Any) -> tuple[Tensor, ...]:
        q, k, v, bias, *window = arguments
        y, sums, table = forward(*arguments)
        ctx.save_for_backward(y, sums, table, q, k, v)
        ctx.mark_non_differentiable(sums, table)
        ctx.set_materialize_grads(False)  # no zeros for those two
        ctx.window, ctx.bias_dtype, ctx.direct = window, None if bias is None else bias.dtype, forward is attend
        return y, sums, table

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 8
        bias_dtype = ctx.bias_dtype if ctx.needs_input_grad[4] else None
        direct = ctx.direct and not torch.is_grad_enabled()  # otherwise a second derivative shall raise
        backward: Callable[..., Any] = attend_backward if direct else triton_backward
        dq, dk, dv, dbias = backward(grad, *ctx.saved_tensors, *ctx.window, bias_dtype)
        return None, dq, dk, dv, None if bias_dtype is None else dbias, None, None, None


class Gradients(torch.autograd.Function):
    """The gradients, which have none."""

    @staticmethod
    def forward(ctx: Any, forward: Callable[..., Any], *arguments: Any) -> tuple[Tensor, ...]:
        gradients: tuple[Tensor, ...] = forward(*arguments)
        return gradients

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(
            "neighborhood attention: the kernel 'triton' has no second derivative; "
            "compute the penalty inside registry.second_order(), or take kernel='tiled-math'"
        )


def _differentiable(apply: Callable[..., Any], forward: Callable[..., Any]) -> Callable[..., Any]:
    """`forward` with the derivative of an autograd function, where one is needed."""

    def run(*arguments: Any) -> Any:
        if torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in arguments):
            return apply(forward, *arguments)
        return forward(*arguments)

    return run


def _without_autograd(op: Callable[..., Any]) -> Callable[..., Any]:
    """A call of `op` that skips its autograd kernel."""

    def run(*arguments: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return op(*arguments)

    return run


def _plain(q: Tensor) -> bool:
    """Whether nothing traces, records or transforms the call, so that dispatching it as an op has no effect."""
    return (
        not torch.compiler.is_compiling()
        and type(q) is Tensor
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._are_functorch_transforms_active()
    )


LIBRARY.define(f"triton({ARGUMENTS}) -> (Tensor, Tensor, Tensor)")
LIBRARY.define(
    "triton_backward(Tensor grad, Tensor y, Tensor sums, Tensor table, Tensor q, Tensor k, Tensor v, "
    f"{WINDOW}, ScalarType? bias_dtype) -> (Tensor, Tensor, Tensor, Tensor)"
)
triton_attention, triton_backward = torch.ops.ganblocks.triton.default, torch.ops.ganblocks.triton_backward.default
for device in ("CPU", "CUDA"):
    LIBRARY.impl("triton", attend, device)
    LIBRARY.impl("triton_backward", attend_backward, device)
LIBRARY.impl("triton", _differentiable(Attention.apply, _without_autograd(triton_attention)), "Autograd")
LIBRARY.impl("triton_backward", _differentiable(Gradients.apply, _without_autograd(triton_backward)), "Autograd")
attend_directly = _differentiable(Attention.apply, attend)  # saves half the time of a call on a small map
torch.library.register_fake("ganblocks::triton", attend_fake, lib=LIBRARY)
torch.library.register_fake("ganblocks::triton_backward", backward_fake, lib=LIBRARY)


class Triton(TritonKernel):
    """Fused and deterministic, for NVIDIA GPUs; no second derivative."""

    op, name, priority = "neighborhood_attention", "triton", 60

    def unavailable(self) -> str | None:
        if reason := super().unavailable():
            return reason
        if torch.version.hip:
            return "is launched by the driver of NVIDIA's GPUs"
        if not INTERPRETED and (capability := torch.cuda.get_device_capability()) < CAPABILITY:
            return f"needs compute capability {_dotted(CAPABILITY)}, and this GPU has {_dotted(capability)}"
        try:
            _launch()
        except Exception as error:  # a version for another torch or Python fails in many ways
            return f"triton cannot be imported: {type(error).__name__}: {error}"
        return None

    def unsupported(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        kernel_size: int,
        bias: Tensor | None = None,
        **_: object,
    ) -> list[str]:
        reasons = []
        device = "cpu" if INTERPRETED else "cuda"
        if any(x.device.type != device for x in (q, k, v)) or (bias is not None and bias.device.type != device):
            reasons.append(f"runs on {device} only here, not on {q.device.type}")
        if not (q.dtype == k.dtype == v.dtype and q.dtype in DTYPES and (bias is None or bias.dtype in DTYPES)):
            dtypes = f"{q.dtype}, {k.dtype} and {v.dtype}" + ("" if bias is None else f" with a bias of {bias.dtype}")
            reasons.append(f"q, k and v should have one dtype of float32, float16 and bfloat16, not {dtypes}")
        if device == "cpu" and q.dtype == torch.bfloat16:
            reasons.append("Triton's interpreter does not multiply matrices of bfloat16")
        if q.shape[-1] > LARGEST_HEAD or v.shape[-1] != q.shape[-1]:
            sizes = f"{q.shape[-1]} and {v.shape[-1]}"
            reasons.append(f"its heads have one size from 1 to {LARGEST_HEAD}, not {sizes}")
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
        call = attend_directly if _plain(q) else triton_attention
        y: Tensor = call(q, k, v, bias, kernel_size, dilation, scale)[0]
        return y


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
