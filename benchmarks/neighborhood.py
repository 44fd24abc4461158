"""Neighborhood attention: our kernels, the reference and natten side by side.

python -m benchmarks.neighborhood [--quick] [--device cuda] prints tables and writes JSON into benchmarks/results. On a
CPU it runs twice: once with the default allocator, and once in a process with `measure.TUNED_MALLOC`, which keeps large
freed blocks. Mapping their memory again can cost as much as the computation.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks import measure
from blocks.ops.neighborhood_attention import neighborhood_attention

HEADS, HEAD_DIM, KERNEL_SIZE = 4, 32, 7
SIDES, GPU_SIDES, QUICK_SIDES = (32, 64, 128, 256), (64, 128, 256), (8, 16)
COMPILED_ON_GPU = (64, 1, "bfloat16")  # side, dilation and dtype at which FlexAttention is measured
LARGEST = {"reference": 64, "masked": 32, "natten-flex": 64, "tiled-math": 128}  # on CPUs, for memory and time


def natten_flex(q: Tensor, k: Tensor, v: Tensor, *, kernel_size: int, dilation: int) -> Tensor:
    """natten's FlexAttention back end, not compiled."""
    import natten

    y: Tensor = natten.na2d(q, k, v, kernel_size=kernel_size, dilation=dilation, backend="flex-fna")
    return y


class Case(NamedTuple):
    """A call, and whether its gradients are computed too."""

    side: int
    dilation: int
    bias: bool
    gradients: bool
    dtype: str = "float32"


def refusals(case: Case, device: str) -> dict[str, str | None]:
    """All kernels, each with the reason why it is skipped, or None."""
    qkv, window = draw(case._replace(gradients=False), device)
    reasons: dict[str, str | None] = {}
    for kernel in neighborhood_attention.kernels():
        reasons[kernel.name] = kernel.unavailable() or "; ".join(kernel.unsupported(*qkv, **window)) or None
    reasons["natten-flex"] = "supports no position bias" if case.bias else None
    if case.gradients and device == "cpu":
        reasons["natten-flex"] = "FlexAttention has no gradients on a CPU"
    try:
        import natten  # noqa: F401
    except Exception as error:
        reasons["natten-flex"] = f"natten cannot be imported: {error}"
    for name, largest in LARGEST.items():
        if device == "cpu" and case.side > largest:
            reasons[name] = reasons.get(name) or f"not run beyond {largest} px"
    if device != "cpu" and (case.side, case.dilation, case.dtype) != COMPILED_ON_GPU:
        compiles = "compiles for seconds per shape, so only one shape is measured"
        reasons["natten-flex"] = reasons["natten-flex"] or compiles
    return reasons


def draw(case: Case, device: str) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """q, k and v as views of one tensor, as a joint projection returns them, and the options of the call."""
    generator, dtype = torch.Generator(device).manual_seed(0), getattr(torch, case.dtype)
    shape = (1, case.side, case.side, 3, HEADS, HEAD_DIM)
    qkv = torch.randn(shape, generator=generator, device=device).to(dtype)
    window: dict[str, Any] = {"kernel_size": KERNEL_SIZE, "dilation": case.dilation}
    if case.bias:
        table = torch.randn(HEADS, *[2 * KERNEL_SIZE - 1] * 2, generator=generator, device=device).to(dtype)
        window["bias"] = table.requires_grad_(case.gradients)
    return qkv.requires_grad_(case.gradients).unbind(3), window


def make_run(name: str, case: Case, device: str) -> Callable[[], object]:
    """The timed function: a kernel, or a kernel and its gradients."""
    qkv, window = draw(case, device)
    kernels = {kernel.name: kernel.run for kernel in neighborhood_attention.kernels()}
    run: Callable[[], Tensor] = partial(kernels.get(name, natten_flex), *qkv, **window)
    return measure.training(run, [*qkv, *([window["bias"]] if case.bias else [])]) if case.gradients else run


def measure_case(case: Case, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each kernel: its times, or why it was skipped."""
    device, side = options.device, case.side
    reasons = refusals(case, device)
    makers = {name: partial(make_run, name, case, device) for name, reason in reasons.items() if reason is None}
    runs, failures = measure.runnable(makers)
    reasons |= failures
    # the matrix product is timed in the same rounds, so that other processes slow down all alike
    a, b = torch.randn(2, 1024, 1024, device=device).to(getattr(torch, case.dtype))
    product = torch.empty_like(a)
    candidates: dict[str, Callable[[], object]] = {"matmul": lambda: torch.mm(a, b, out=product), **runs}
    limit = 2.0 if device == "cpu" else 0.1
    times = measure.interleaved(candidates, rounds=2 if options.quick else 9, device=device, seconds=limit)
    seconds = measure.medians(times)
    rate = 2 * 1024**3 / min(times["matmul"])
    operations = 4 * side**2 * KERNEL_SIZE**2 * HEAD_DIM * HEADS
    qkvo_bytes = 4 * a.element_size() * side**2 * HEAD_DIM * HEADS  # q, k, v and the output
    rows = []
    for name in runs:
        growth = None
        if side == 256 and not options.quick:
            growth = measure.peak_memory(make_run, name, case, device, device=device)
        rows.append(
            case._asdict()
            | {
                "kernel": name,
                "ms": 1e3 * seconds[name],
                "best ms": 1e3 * min(times[name]),
                "times reference": seconds["reference"] / seconds[name] if "reference" in seconds else None,
                "matmul rate %": None if case.gradients else 100 * operations / min(times[name]) / rate,
                "ns per pixel": 1e9 * seconds[name] / side**2,
                "peak / qkvo": None if growth is None else (growth + qkvo_bytes * 3 / 4) / qkvo_bytes,
            }
        )
    skipped = ({"kernel": name, "skipped": reason} for name, reason in reasons.items() if reason)
    return rows + [case._asdict() | row for row in skipped]


def cases(options: argparse.Namespace) -> Iterator[Case]:
    on_cpu = options.device == "cpu"
    sides = QUICK_SIDES if options.quick else SIDES if on_cpu else GPU_SIDES
    for dtype, side in itertools.product(("float32",) if on_cpu else ("bfloat16", "float32"), sides):
        for dilation in sorted({1, side // KERNEL_SIZE}):
            for bias, gradients in itertools.product((False, True), repeat=2):
                yield Case(side, dilation, bias, gradients, dtype)


def main() -> None:
    options = measure.parse_options(__doc__ or "", "neighborhood")
    machine, rows = measure.machine(options.device), []
    for case in cases(options):
        if measure.in_time(options, *case):
            rows += measure_case(case, options)
            measure.save(options.output, machine, rows)
    print(machine, measure.table([row for row in rows if "ms" in row]), sep="\n")
    for name, reason in dict.fromkeys((row["kernel"], row["skipped"]) for row in rows if "skipped" in row):
        print(f"{name} skipped: {reason}")
    if options.device == "cpu" and not any(name in os.environ for name in measure.TUNED_MALLOC):
        again = [sys.executable, "-m", "benchmarks.neighborhood", *sys.argv[1:]]
        if options.output:
            again += ["--output", str(options.output.with_stem(options.output.stem + "-tuned-malloc"))]
        subprocess.run(again, env=os.environ | measure.TUNED_MALLOC, check=True)


if __name__ == "__main__":
    main()
