"""Plain and modulated convolutions and resampling: kernels side by side, convolutions at batch sizes 1 and 8.

python -m benchmarks.convolution [--quick] [--device cuda] prints a table and writes JSON into benchmarks/results.
"""

from __future__ import annotations

import argparse
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

RESAMPLINGS: dict[str, Resample2d] = {"up": Upsample2d(), "down": Downsample2d(), "blur": Blur2d(padding=(2, 2))}
MAPS = ((8, 64, 32, 32), (1, 32, 128, 128))  # batch, channels, height, width
QUICK_MAPS = ((1, 4, 8, 8),)
BATCHES = (1, 8)
MODULATED = ((512, 8), (256, 16), (64, 64))  # channels, side
QUICK_MODULATED = ((8, 8),)
PLAIN = ((512, 16), (512, 32), (128, 64), (64, 128))
QUICK_PLAIN = ((64, 32),)
PASSES = ("forward", "forward+backward")
PENALTY = "gradient penalty"  # for the ops of discriminators


def make_run(run: Callable[[], Tensor], leaves: list[Tensor], work: str) -> Callable[[], object]:
    """A forward pass, its gradients, or the gradients of a gradient penalty, as in R1 and path length."""
    if work == "forward":
        return torch.no_grad()(run)
    if work == "forward+backward":
        return measure.training(run, leaves)

    def penalty() -> object:
        gradients = torch.autograd.grad(run().square().sum(), leaves, create_graph=True)
        return torch.autograd.grad(torch.stack([each.square().sum() for each in gradients]).sum(), leaves)

    return penalty


def measure_case(
    op: Op,
    case: dict[str, Any],
    args: list[Tensor],
    kwargs: dict[str, Any],
    leaves: list[Tensor],
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """A row for each pass and each kernel that supports the call."""
    rows = []
    for work in PASSES if op is modulated_conv2d else (*PASSES, PENALTY):
        able = [kernel for kernel in op.kernels() if not (kernel.unavailable() or kernel.unsupported(*args, **kwargs))]
        candidates = {kernel.name: make_run(partial(kernel.run, *args, **kwargs), leaves, work) for kernel in able}
        times = measure.medians(
            measure.interleaved(candidates, rounds=3 if options.quick else 5, device=options.device, seconds=0.4)
        )
        rows += [
            {"op": op.name}
            | case
            | {"pass": work, "kernel": name, "ms": 1e3 * seconds}
            | {"times reference": times["reference"] / seconds}
            for name, seconds in times.items()
        ]
    return rows


def resampling(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for name, block in RESAMPLINGS.items():
        for shape in QUICK_MAPS if options.quick else MAPS:
            x = torch.randn(shape, device=options.device, requires_grad=True)
            kwargs = {"up": block.up, "down": block.down, "padding": block.padding, "gain": block.gain}
            case = {"case": name, "batch": shape[0], "channels": shape[1], "side": shape[2]}
            rows += measure_case(upfirdn2d, case, [x, block.filter.to(options.device)], kwargs, [x], options)
    return rows


def plain(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for batch in BATCHES:
        for channels, side in QUICK_PLAIN if options.quick else PLAIN:
            shapes = ((batch, channels, side, side), (channels, channels, 3, 3))
            args = [torch.randn(shape, device=options.device) for shape in shapes]
            args = [x.contiguous(memory_format=torch.channels_last).requires_grad_() for x in args]  # as in networks
            case = {"case": "3x3", "batch": batch, "channels": channels, "side": side}
            rows += measure_case(conv2d, case, args, {"padding": 1}, args, options)
    return rows


def modulated(options: argparse.Namespace) -> list[dict[str, Any]]:
    upsampling = {"up": 2, "filter": Upsample2d().filter.to(options.device)}
    rows = []
    for batch in BATCHES:
        for channels, side in QUICK_MODULATED if options.quick else MODULATED:
            for name, kwargs, size in (("3x3", {}, side), ("3x3 up", upsampling, side // 2)):
                shapes = ((batch, channels, size, size), (channels, channels, 3, 3), (batch, channels))
                args = [torch.randn(shape, device=options.device, requires_grad=True) for shape in shapes]
                case = {"case": name, "batch": batch, "channels": channels, "side": size}
                rows += measure_case(modulated_conv2d, case, args, kwargs, args, options)
    return rows


def main() -> None:
    options = measure.parse_options(__doc__ or "", "convolution")
    machine = measure.machine(options.device)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rows = plain(options) + modulated(options) + resampling(options)
    print(machine, measure.table(rows), sep="\n")
    measure.save(options.output, machine, rows)


if __name__ == "__main__":
    main()
