"""Calls of bias_act in every layout, with first and second derivatives; `compare_triton` compares the Triton kernel.

`TRITON_INTERPRET=1 python -m tests.blocks.ops.bias_act_calls` does so by Triton's interpreter, without a GPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, get_args

import torch
from torch import Tensor

from blocks.ops.bias_act import Activation, bias_act
from blocks.ops.bias_act.triton import Triton
from registry import Kernel

# largest error relative to the largest value: that of rounding results to the dtype
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
LAYOUTS = ("contiguous", "channels-last", "last axis", "vectors")


def calls(dtype: torch.dtype, device: str) -> Iterator[tuple[dict[str, Tensor], dict[str, Any]]]:
    """Tensors and options; tensors are rounded to `dtype`."""
    generator = torch.Generator().manual_seed(0)
    cases = itertools.product(LAYOUTS, get_args(Activation), (None, 1.5), (None, "map", "image"))
    for index, (layout, activation, clamp, noise) in enumerate(cases):
        if index % 2:  # half of them shows as much
            continue
        x = torch.randn(2, 5, 6, 7, generator=generator)
        if layout == "channels-last":
            x = x.contiguous(memory_format=torch.channels_last)
        x = torch.randn(9, 5, generator=generator) if layout == "vectors" else x
        dim = -1 if layout in ("last axis", "vectors") else 1
        x = x.permute(0, 2, 3, 1).contiguous() if layout == "last axis" else x
        samples = (len(x),) if clamp is not None else ()
        tensors = {"x": x, "bias": torch.randn(*samples, 5, generator=generator)}
        if activation in ("linear", "swish"):
            tensors["scale"] = torch.randn(*samples, 5, generator=generator)
        if noise is not None and layout != "vectors":
            tensors["noise"] = torch.randn((2, 6, 7) if noise == "image" else (6, 7), generator=generator)
        yield (
            {name: value.to(dtype).to(device) for name, value in tensors.items()},
            {"activation": activation, "clamp": clamp, "dim": dim},
        )


def derivatives(
    kernel: Kernel, tensors: dict[str, Tensor], options: dict[str, Any], dtype: torch.dtype
) -> list[Tensor]:
    """The result, its gradients and the gradients of a function of these."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in tensors.items()}
    y = kernel.run(**leaves, **options)
    directions = [torch.linspace(-1, 2, y.numel(), device=y.device).view_as(y).to(dtype).to(y.dtype)]
    first = torch.autograd.grad(y, list(leaves.values()), directions, create_graph=True)
    weights = (torch.linspace(1, 2, each.numel(), device=y.device).view_as(each).to(dtype) for each in first)
    weighted = [each.double() * weight.double() for each, weight in zip(first, weights, strict=True)]
    scalar = torch.stack([each.sum() for each in weighted]).sum()
    second: Any = [None] * len(leaves)
    if scalar.requires_grad:
        second = torch.autograd.grad(scalar, list(leaves.values()), allow_unused=True)
    zeros = (torch.zeros_like(leaf) for leaf in leaves.values())
    return [y, *first, *(zero if each is None else each for each, zero in zip(second, zeros, strict=True))]


def compare_triton(dtype: torch.dtype, device: str) -> int:
    """Compare the kernel with the reference in float64; returns the number of calls.

    Raises:
        AssertionError: They differ.
    """
    count = 0
    for tensors, options in calls(dtype, device):
        assert Triton().unsupported(**tensors, **options) == []
        actual = derivatives(Triton(), tensors, options, dtype)
        exact = {name: value.double() for name, value in tensors.items()}
        for value, expected in zip(actual, derivatives(bias_act.reference, exact, options, dtype), strict=True):
            assert value.dtype == dtype
            error = (value.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-3)
            assert error < TOLERANCE[dtype], (options, [list(each.shape) for each in tensors.values()], error)
        count += 1
    return count


if __name__ == "__main__":
    for each in TOLERANCE:
        print(each, compare_triton(each, "cpu"), "calls: ok")
