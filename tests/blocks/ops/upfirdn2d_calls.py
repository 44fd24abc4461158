"""Calls of upfirdn2d in both layouts, with first and second derivatives; `compare_triton` compares the Triton kernel.

`TRITON_INTERPRET=1 python -m tests.blocks.ops.upfirdn2d_calls` does so by Triton's interpreter, without a GPU.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from blocks.ops.upfirdn2d import upfirdn2d
from blocks.ops.upfirdn2d.triton import Triton
from registry import Kernel

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}  # relative to the largest value
RATES = ((1, 1), (2, 1), (1, 2), ((2, 1), (1, 3)))  # up, down
PADDINGS = ((2, 1, 2, 1), (0, 3, 1, 0), (-1, 2, 0, -1))


def derivatives(
    kernel: Kernel, x: Tensor, filter: Tensor, options: dict[str, object], dtype: torch.dtype
) -> list[Tensor]:
    """The result, its gradient, and the gradient of that by its direction; directions are rounded to `dtype`."""

    def direction(low: float, y: Tensor) -> Tensor:
        return torch.linspace(low, 2, y.numel(), device=y.device).view_as(y).to(dtype).to(y.dtype)

    x = x.detach().requires_grad_()
    y = kernel.run(x, filter, **options)
    outer = direction(-1, y).requires_grad_()
    (first,) = torch.autograd.grad(y, x, outer, create_graph=True)
    (second,) = torch.autograd.grad(first, outer, direction(1, first))
    return [y, first, second]


def compare_triton(dtype: torch.dtype, device: str) -> int:
    """Compare the kernel with the reference in float64; returns the number of calls.

    Raises:
        AssertionError: They differ.
    """
    count, generator = 0, torch.Generator().manual_seed(0)
    layouts = (torch.contiguous_format, torch.channels_last)
    for (up, down), padding, flip, layout in itertools.product(RATES, PADDINGS, (False, True), layouts):
        x = torch.randn(2, 3, 6, 7, generator=generator).to(dtype).to(device).contiguous(memory_format=layout)
        filter = torch.randn((4, 4) if flip else (3, 2), generator=generator).to(device)
        options = {"up": up, "down": down, "padding": padding, "gain": 1.5, "flip_filter": flip}
        assert Triton().unsupported(x, filter, **options) == []
        actual = derivatives(Triton(), x, filter, options, dtype)
        expected = derivatives(upfirdn2d.reference, x.double(), filter.double(), options, dtype)
        assert actual[0].is_contiguous(memory_format=layout)
        for value, wanted in zip(actual, expected, strict=True):
            error = (value.double() - wanted).abs().max() / wanted.abs().max()
            assert error < TOLERANCE[dtype], (options, layout, error)
        count += 1
    return count


if __name__ == "__main__":
    for each in TOLERANCE:
        print(each, compare_triton(each, "cpu"), "calls: ok")
