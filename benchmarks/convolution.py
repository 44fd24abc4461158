"""Convolutions, modulated ones and resampling: kernels side by side, convolutions for one sample and for eight.

python -m benchmarks.convolution [--quick] [--device cuda] prints a table and writes JSON into benchmarks/results.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import measure
from blocks.common.resample import Blur2d, Downsample2d, Resample2d, Upsample2d
from blocks.ops.conv2d import conv2d
from blocks.ops.modulated_conv2d import modulated_conv2d
from blocks.ops.upfirdn2d import upfirdn2d
from registry import Op

RESAMPLED: dict[str, Resample2d] = {"up": Upsample2d(), "down": Downsample2d(), "blur": Blur2d(padding=(2, 2))}
MAPS = ((8, 64, 32, 32), (1, 32, 128, 128))  # batch, channels, height, width
QUICK_MAPS = ((1, 4, 8, 8),)
BATCHES = (1, 8)
CONVOLVED = ((512, 8), (256, 16), (64, 64))  # channels, side
QUICK_CONVOLVED = ((8, 8),)
PLAIN = ((512, 16), (512, 32), (128, 64), (64, 128))
QUICK_PLAIN = ((64, 32),)
PASSES = ("forward", "forward+backward")
PENALTY = "gradient penalty"  # for what sits in discriminators


def timed(run: Callable[[], Tensor], leaves: list[Tensor], kind: str) -> Callable[[], object]:
    """A run, its gradients, or those of a gradient penalty, as in R1 and path length."""
    if kind == "forward":
        return torch.no_grad()(run)
    if kind == "forward+backward":
        return measure.training(run, leaves)

    def penalty() -> object:
        found = torch.autograd.grad(run().square().sum(), leaves, create_graph=True)
        return torch.autograd.grad(torch.stack([each.square().sum() for each in found]).sum(), leaves)

    return penalty


def rows_of(
    op: Op, told: dict[str, Any], args: list[Tensor], options: dict[str, Any], leaves: list[Tensor], asked: Any
) -> list[dict[str, Any]]:
    rows = []
    for kind in PASSES if op is modulated_conv2d else (*PASSES, PENALTY):
        able = [kernel for kernel in op.kernels() if not (kernel.unavailable() or kernel.unsupported(*args, **options))]
        candidates = {kernel.name: timed(partial(kernel.run, *args, **options), leaves, kind) for kernel in able}
        times = measure.medians(
            measure.interleaved(candidates, rounds=3 if asked.quick else 5, device=asked.device, seconds=0.4)
        )
        rows += [
            {"op": op.name}
            | told
            | {"pass": kind, "kernel": name, "ms": 1e3 * found}
            | {"times reference": times["reference"] / found}
            for name, found in times.items()
        ]
    return rows


def resampled(asked: Any) -> list[dict[str, Any]]:
    rows = []
    for name, each in RESAMPLED.items():
        for shape in QUICK_MAPS if asked.quick else MAPS:
            x = torch.randn(shape, device=asked.device, requires_grad=True)
            options = {"up": each.up, "down": each.down, "padding": each.padding, "gain": each.gain}
            told = {"case": name, "batch": shape[0], "channels": shape[1], "side": shape[2]}
            rows += rows_of(upfirdn2d, told, [x, each.filter.to(asked.device)], options, [x], asked)
    return rows


def plain(asked: Any) -> list[dict[str, Any]]:
    rows = []
    for batch in BATCHES:
        for channels, side in QUICK_PLAIN if asked.quick else PLAIN:
            shapes = ((batch, channels, side, side), (channels, channels, 3, 3))
            args = [torch.randn(shape, device=asked.device) for shape in shapes]  # as networks have them in memory
            args = [each.contiguous(memory_format=torch.channels_last).requires_grad_() for each in args]
            told = {"case": "3x3", "batch": batch, "channels": channels, "side": side}
            rows += rows_of(conv2d, told, args, {"padding": 1}, args, asked)
    return rows


def modulated(asked: Any) -> list[dict[str, Any]]:
    rows = []
    for batch in BATCHES:
        for channels, side in QUICK_CONVOLVED if asked.quick else CONVOLVED:
            for name, options in (("3x3", {}), ("3x3 up", {"up": 2, "filter": Upsample2d().filter.to(asked.device)})):
                size = side // 2 if options else side
                shapes = ((batch, channels, size, size), (channels, channels, 3, 3), (batch, channels))
                args = [torch.randn(shape, device=asked.device, requires_grad=True) for shape in shapes]
                told = {"case": name, "batch": batch, "channels": channels, "side": size}
                rows += rows_of(modulated_conv2d, told, args, dict(options), args, asked)
    return rows


def main() -> None:
    asked = measure.arguments(__doc__ or "", "convolution")
    told = measure.machine(asked.device)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rows = plain(asked) + modulated(asked) + resampled(asked)
    print(told, measure.table(rows), sep="\n")
    measure.save(asked.output, told, rows)


if __name__ == "__main__":
    main()
