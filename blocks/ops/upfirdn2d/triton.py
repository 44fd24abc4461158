"""Resampling in one pass over the map on a GPU, in channels-last or contiguous memory.

A depthwise convolution of PyTorch or cudnn takes 20 to 80 times as long as reading the map. The derivative is a
resampling again, as in the kernel `linear`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops.triton import TritonKernel
from blocks.ops.upfirdn2d.linear import adjoint_padding
from blocks.ops.upfirdn2d.reference import Padding, Pair, pair

MOST_TAPS = 8  # on each axis; the kernel is compiled for each size of the filter


class Options(NamedTuple):
    """What a resampling does with a map and a filter."""

    up: tuple[int, int]
    down: tuple[int, int]
    padding: Padding
    gain: float
    flip_filter: bool


class Resampling(torch.autograd.Function):
    """The op, linear in x; the filter is constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, options: Options) -> Tensor:
        from blocks.ops.upfirdn2d import triton_kernel

        ctx.save_for_backward(taps)
        (up_x, up_y), (down_x, down_y), (left, right, top, bottom), gain, flip_filter = options
        height = (up_y * x.shape[2] + top + bottom - taps.shape[0]) // down_y + 1
        width = (up_x * x.shape[3] + left + right - taps.shape[1]) // down_x + 1
        channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        x = x.contiguous(memory_format=layout)
        y = torch.empty(*x.shape[:2], height, width, dtype=x.dtype, device=x.device, memory_format=layout)
        ctx.options, ctx.sizes = options, (*x.shape[2:], height, width)
        if y.numel():
            triton_kernel.launch(
                y,
                x,
                taps,
                up=options.up,
                down=options.down,
                left=left,
                top=top,
                gain=gain,
                flip_filter=flip_filter,
                channels_last=channels_last,
            )
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (taps,) = ctx.saved_tensors
        up, down, padding, gain, flip_filter = ctx.options
        adjoint = adjoint_padding((taps.shape[1], taps.shape[0]), ctx.sizes, up, down, padding)
        return resampling(gradient, taps, Options(down, up, adjoint, gain, not flip_filter)), None, None


resampling: Callable[..., Tensor] = Resampling.apply


class Triton(TritonKernel):
    """Reads the map once and writes the result once, in float32 arithmetic; differentiable any number of times."""

    op, name, priority, second_order = "upfirdn2d", "triton", 30, True

    def unsupported(self, x: Tensor, filter: Tensor, **_: object) -> list[str]:
        if torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return ["torch.compile cannot trace a derivative that calls itself"]
        reasons = self.unsupported_map(x)
        if filter.ndim != 2 or max(filter.shape) > MOST_TAPS:
            reasons.append(f"needs a filter of two dimensions with at most {MOST_TAPS} taps on each")
        if filter.requires_grad:
            reasons.append("computes no gradient of the filter")
        return reasons

    def run(
        self,
        x: Float[Tensor, "b c h w"],
        filter: Float[Tensor, "fh fw"],
        *,
        up: Pair = 1,
        down: Pair = 1,
        padding: Padding = (0, 0, 0, 0),
        gain: float = 1.0,
        flip_filter: bool = False,
    ) -> Float[Tensor, "b c i j"]:
        return resampling(x, filter.contiguous(), Options(pair(up), pair(down), padding, gain, flip_filter))
