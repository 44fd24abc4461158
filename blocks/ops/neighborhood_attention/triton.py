"""Neighborhood attention on GPUs in Triton, forward and backward, with relative position bias and its gradient.

NAT, Hassani et al. 2022, https://arxiv.org/abs/2204.07143, section 3.1; dilated: DiNAT, https://arxiv.org/abs/2209.15001.
`triton_tiles` documents the algorithm; this file declares the op and its kernel. Triton is imported when the first
call or the first block looks for kernels on a machine with a GPU.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops.neighborhood_attention.tiles import check_map
from registry import Kernel

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LARGEST_WINDOW = 13
LARGEST_HEAD = 128
CAPABILITY = (8, 0)
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # Triton runs on the CPU, for tests


def _launch() -> Any:
    return import_module("blocks.ops.neighborhood_attention.triton_launch")


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, kernel_size: int, dilation: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Neighborhood attention, and the binary logarithm of the softmax denominators."""
    if q.numel() == 0:
        return q.new_empty(q.shape), q.new_empty((0, *q.shape[3:0:-1]), dtype=torch.float32)
    launch = _launch()
    with torch.cuda.device_of(q):
        y, sums = launch.attend(q, k, v, bias, launch.Window(kernel_size, dilation, scale))
    return y, sums


def attend_backward(
    grad: Tensor,
    y: Tensor,
    sums: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    kernel_size: int,
    dilation: int,
    scale: float,
    with_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of queries, keys, values and bias; the last is a scalar without meaning if it is not needed."""
    if q.numel() == 0:
        no_bias = q.new_empty(()) if bias is None or not with_bias else torch.zeros_like(bias)
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), no_bias
    launch = _launch()
    with torch.cuda.device_of(q):
        saved = launch.Saved(grad if grad.stride(-1) == 1 else grad.contiguous(), y, sums, q, k, v, bias)
        window = launch.Window(kernel_size, dilation, scale)
        dq, delta = launch.query_gradients(saved, window)
        dk, dv = launch.key_gradients(saved, delta, window)
        dbias = launch.bias_gradient(saved, delta, window) if with_bias else q.new_empty(())
    return dq, dk, dv, dbias


LIBRARY = torch.library.Library("ganblocks", "FRAGMENT")
ARGUMENTS = "Tensor q, Tensor k, Tensor v, Tensor? bias, int kernel_size, int dilation, float scale"
LIBRARY.define(f"triton({ARGUMENTS}) -> (Tensor, Tensor)")
LIBRARY.define(
    f"triton_backward(Tensor grad, Tensor y, Tensor sums, {ARGUMENTS}, bool with_bias)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)
for device in ("CPU", "CUDA"):
    LIBRARY.impl("triton", attend, device)
    LIBRARY.impl("triton_backward", attend_backward, device)
triton_attention, triton_backward = torch.ops.ganblocks.triton.default, torch.ops.ganblocks.triton_backward.default


@torch.library.register_fake("ganblocks::triton", lib=LIBRARY)
def _(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *_: Any) -> tuple[Tensor, Tensor]:
    batch, height, width, heads, _ = q.shape
    return q.new_empty(q.shape), q.new_empty((batch, heads, height, width), dtype=torch.float32)


@torch.library.register_fake("ganblocks::triton_backward", lib=LIBRARY)
def _(
    grad: Tensor,
    y: Tensor,
    sums: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    kernel_size: int,
    dilation: int,
    scale: float,
    with_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dq, dk, dv = (q.new_empty(q.shape) for _ in range(3))
    return dq, dk, dv, bias.new_empty(bias.shape) if bias is not None and with_bias else q.new_empty(())


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*output, *inputs[:4])
    ctx.mark_non_differentiable(output[1])
    ctx.window = inputs[4:]


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # read once: under gradient checkpointing a second read raises
    with_bias = ctx.needs_input_grad[3]
    dq, dk, dv, dbias = triton_backward(grad, *saved, *ctx.window, with_bias)
    return dq, dk, dv, dbias if with_bias else None, None, None, None


def _setup_second(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    pass


def _second(ctx: Any, *_: Any) -> None:
    raise RuntimeError(
        "neighborhood attention: kernel 'triton' has no second derivative; "
        "compute the penalty inside registry.second_order(), or bind the kernel 'tiled-math'"
    )


torch.library.register_autograd("ganblocks::triton", _backward, setup_context=_setup_context, lib=LIBRARY)
torch.library.register_autograd("ganblocks::triton_backward", _second, setup_context=_setup_second, lib=LIBRARY)


class Triton(Kernel):
    """Fused and deterministic, for NVIDIA GPUs; no second derivative."""

    op, name, priority = "neighborhood_attention", "triton", 60
    library = "triton"

    def unavailable(self) -> str | None:
        if not INTERPRETED:
            if not torch.cuda.is_available() or torch.version.hip:
                return "runs on NVIDIA GPUs, and there is none here (TRITON_INTERPRET=1 runs it on the CPU, for tests)"
            if (capability := torch.cuda.get_device_capability()) < CAPABILITY:
                return f"needs compute capability {_dotted(CAPABILITY)}, and this GPU has {_dotted(capability)}"
        if find_spec("triton") is None:
            return "triton is not installed; torch's CUDA wheels bring it, and `pip install triton` adds it"
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
        y: Tensor = triton_attention(q, k, v, bias, kernel_size, dilation, scale)[0]
        return y


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
