"""Plain and modulated convolutions, resampling, and bias with activation: kernels side by side.

On a GPU maps are in channels-last memory, in float16 and float32; on a CPU they are in float32.

python -m benchmarks.convolution [--quick] [--device cuda] prints a table and writes JSON into benchmarks/results.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import measure
from blocks.common.resample import Blur2d, Downsample2d, Resample2d, Upsample2d
from blocks.ops.bias_act import bias_act
from blocks.ops.conv2d import conv2d
from blocks.ops.modulated_conv2d import modulated_conv2d
from blocks.ops.upfirdn2d import upfirdn2d
from registry import Op

RESAMPLINGS: dict[str, Resample2d] = {"up": Upsample2d(), "down": Downsample2d(), "blur": Blur2d(padding=(2, 2))}
MAPS = ((8, 64, 32, 32), (1, 32, 128, 128))  # batch, channels, height, width
GPU_MAPS = ((1, 512, 64, 64), (16, 128, 256, 256))
QUICK_MAPS = ((1, 4, 8, 8),)
BATCHES = (1, 8)
MODULATED = ((512, 8), (256, 16), (64, 64))  # channels, side
QUICK_MODULATED = ((8, 8),)
PLAIN = ((512, 16), (512, 32), (128, 64), (64, 128))
QUICK_PLAIN = ((64, 32),)
PASSES = ("forward", "forward+backward")
PENALTY = "gradient penalty"  # for the ops of discriminators

Cases = Iterator[list[dict[str, Any]]]


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
    for work in PASSES if op in (modulated_conv2d, bias_act) else (*PASSES, PENALTY):
        with torch.set_grad_enabled(work != "forward"):
            able = [each for each in op.kernels() if not (each.unavailable() or each.unsupported(*args, **kwargs))]
        if not measure.in_time(options, op.name, *case.values(), work):
            continue
        candidates, _ = measure.runnable(
            {
                kernel.name: partial(make_run, partial(kernel.run, *args, **kwargs), leaves, work)
                for kernel in able
                if kernel.second_order or work != PENALTY
            }
        )
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


def resampling(options: argparse.Namespace) -> Cases:
    for name, block in RESAMPLINGS.items():
        for shape, dtype in maps(options):
            x = draw(shape, dtype, options)
            kwargs = {"up": block.up, "down": block.down, "padding": block.padding, "gain": block.gain}
            yield measure_case(
                upfirdn2d, case_of(name, shape, dtype), [x, block.filter.to(options.device)], kwargs, [x], options
            )


def activation(options: argparse.Namespace) -> Cases:
    for shape, dtype in maps(options):
        x, bias, noise = draw(shape, dtype, options), torch.randn(shape[1]), torch.randn(shape[2:])
        leaves = [x, *(each.to(options.device).requires_grad_() for each in (bias, noise))]
        kwargs = {"noise": leaves[2], "activation": "lrelu", "clamp": 256.0}
        yield measure_case(bias_act, case_of("lrelu", shape, dtype), leaves[:2], kwargs, leaves, options)


def maps(options: argparse.Namespace) -> Iterator[tuple[tuple[int, ...], torch.dtype]]:
    on_cpu = options.device == "cpu"
    for shape in QUICK_MAPS if options.quick else MAPS if on_cpu else GPU_MAPS:
        for dtype in (torch.float32,) if on_cpu else (torch.float16, torch.float32):
            yield shape, dtype


def draw(shape: tuple[int, ...], dtype: torch.dtype, options: argparse.Namespace) -> Tensor:
    x = torch.randn(shape, device=options.device, dtype=dtype)
    layout = torch.contiguous_format if options.device == "cpu" else torch.channels_last
    return x.contiguous(memory_format=layout).requires_grad_()


def case_of(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Any]:
    case = {"case": name, "batch": shape[0], "channels": shape[1], "side": shape[2]}
    return case | {"dtype": str(dtype).removeprefix("torch.")}


def plain(options: argparse.Namespace) -> Cases:
    for batch in BATCHES:
        for channels, side in QUICK_PLAIN if options.quick else PLAIN:
            shapes = ((batch, channels, side, side), (channels, channels, 3, 3))
            args = [torch.randn(shape, device=options.device) for shape in shapes]
            args = [x.contiguous(memory_format=torch.channels_last).requires_grad_() for x in args]  # as in networks
            case = case_of("3x3", (batch, channels, side), torch.float32)
            yield measure_case(conv2d, case, args, {"padding": 1}, args, options)


def modulated(options: argparse.Namespace) -> Cases:
    upsampling = {"up": 2, "filter": Upsample2d().filter.to(options.device)}
    for batch in BATCHES:
        for channels, side in QUICK_MODULATED if options.quick else MODULATED:
            for name, kwargs, size in (("3x3", {}, side), ("3x3 up", upsampling, side // 2)):
                for dtype in (torch.float32,) if options.device == "cpu" else (torch.float16, torch.float32):
                    shape = (batch, channels, size, size)
                    args = [
                        draw(shape, dtype, options),
                        draw((channels, channels, 3, 3), torch.float32, options),
                        torch.randn(batch, channels, device=options.device, requires_grad=True),
                    ]
                    yield measure_case(modulated_conv2d, case_of(name, shape, dtype), args, kwargs, args, options)


def main() -> None:
    options = measure.parse_options(__doc__ or "", "convolution")
    machine = measure.machine(options.device)
    rows: list[dict[str, Any]] = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for part in (plain, modulated, resampling, activation):
            for measured in part(options):
                rows += measured
                measure.save(options.output, machine, rows)
    print(machine, measure.table(rows), sep="\n")


if __name__ == "__main__":
    main()
