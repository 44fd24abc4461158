"""Neighborhood attention: our kernels, the gather reference and natten side by side.

python -m benchmarks.neighborhood [--quick] [--device cuda] prints tables and writes JSON into benchmarks/results. On a
CPU it runs twice, the second time in a process whose allocator keeps large temporaries (see `measure.ALLOCATOR`), since
mapping their memory anew costs as much as computing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import measure
from blocks.ops.neighborhood_attention import neighborhood_attention

HEADS, HEAD_DIM, KERNEL_SIZE = 4, 32, 7
SIDES, QUICK = (32, 64, 128, 256), (8, 16)
LARGEST = {"reference": 64, "masked": 32, "natten-flex": 64, "tiled-math": 128}  # elsewhere memory or patience ends
KEPT = dict(zip(measure.ALLOCATOR, ("0", "68719476736"), strict=True))


def natten_flex(q: Tensor, k: Tensor, v: Tensor, *, kernel_size: int, dilation: int) -> Tensor:
    """natten's back end on FlexAttention, not compiled."""
    import natten

    y: Tensor = natten.na2d(q, k, v, kernel_size=kernel_size, dilation=dilation, backend="flex-fna")
    return y


def kernels(*, with_bias: bool, gradients: bool, side: int, dilation: int, device: str) -> dict[str, str | None]:
    """All there is to compare, each with the reason why it is left out, if it is."""
    qkv, window = draw(side, dilation, with_bias, False, device)
    reasons: dict[str, str | None] = {}
    for kernel in neighborhood_attention.kernels():
        why = kernel.unavailable() or "; ".join(kernel.unsupported(*qkv, **window)) or None
        reasons[kernel.name] = why
    reasons["natten-flex"] = "takes no position bias" if with_bias else None
    if gradients and device == "cpu":
        reasons["natten-flex"] = "FlexAttention has no gradients on a CPU"
    try:
        import natten  # noqa: F401
    except Exception as error:
        reasons["natten-flex"] = f"natten cannot be imported: {error}"
    for name, largest in LARGEST.items():
        if device == "cpu" and side > largest:
            reasons[name] = reasons.get(name) or f"not run beyond {largest} px"
    return reasons


def draw(
    side: int, dilation: int, with_bias: bool, gradients: bool, device: str
) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """q, k and v as one projection leaves them, and the rest of the call."""
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(1, side, side, 3, HEADS, HEAD_DIM, generator=generator).to(device).requires_grad_(gradients)
    window: dict[str, Any] = {"kernel_size": KERNEL_SIZE, "dilation": dilation}
    if with_bias:
        table = torch.randn(HEADS, *[2 * KERNEL_SIZE - 1] * 2, generator=generator).to(device)
        window["bias"] = table.requires_grad_(gradients)
    return qkv.unbind(3), window


def runs(name: str, side: int, dilation: int, with_bias: bool, gradients: bool, device: str) -> Callable[[], object]:
    """What is timed: a kernel, or a kernel and its gradients."""
    qkv, window = draw(side, dilation, with_bias, gradients, device)
    found = [kernel.run for kernel in neighborhood_attention.kernels() if kernel.name == name]
    run: Callable[[], Tensor] = partial(found[0] if found else natten_flex, *qkv, **window)
    return measure.training(run, [*qkv, *([window["bias"]] if with_bias else [])]) if gradients else run


def rows_of(side: int, dilation: int, with_bias: bool, gradients: bool, asked: argparse.Namespace) -> list[Any]:
    device = asked.device
    case = {"side": side, "dilation": dilation, "bias": with_bias, "gradients": gradients}
    reasons = kernels(side=side, dilation=dilation, with_bias=with_bias, gradients=gradients, device=device)
    able = [name for name, reason in reasons.items() if reason is None]
    timed = {name: runs(name, side, dilation, with_bias, gradients, device) for name in able}
    # the product is timed in the same rounds: what else the machine does slows down all alike
    a, b = torch.randn(2, 1024, 1024, device=device)
    product = torch.empty_like(a)
    everything: dict[str, Callable[[], object]] = {"matmul": lambda: torch.mm(a, b, out=product), **timed}
    times = measure.interleaved(everything, rounds=2 if asked.quick else 9, device=device, seconds=2)
    seconds = measure.medians(times)
    rate = 2 * 1024**3 / min(times["matmul"])
    operations = 4 * side**2 * KERNEL_SIZE**2 * HEAD_DIM * HEADS
    inputs = 4 * 4 * side**2 * HEAD_DIM * HEADS  # q, k, v and what is given, in bytes
    rows = []
    for name in able:
        grown = None
        if side == 256 and not asked.quick:
            grown = measure.peak_memory(runs, name, side, dilation, with_bias, gradients, device, device=device)
        rows.append(
            case
            | {
                "kernel": name,
                "ms": 1e3 * seconds[name],
                "best ms": 1e3 * min(times[name]),
                "times reference": seconds["reference"] / seconds[name] if "reference" in seconds else None,
                "matmul rate %": None if gradients else 100 * operations / min(times[name]) / rate,
                "ns per pixel": 1e9 * seconds[name] / side**2,
                "peak / qkvo": None if grown is None else (grown + inputs * 3 / 4) / inputs,
            }
        )
    return rows + [case | {"kernel": name, "why not": reason} for name, reason in reasons.items() if reason]


def main() -> None:
    asked = measure.arguments(__doc__ or "", "neighborhood")
    told, rows = measure.machine(asked.device), []
    for side in QUICK if asked.quick else SIDES:
        for dilation in sorted({1, side // KERNEL_SIZE}):
            for with_bias in (False, True):
                for gradients in (False, True):
                    rows += rows_of(side, dilation, with_bias, gradients, asked)
    measured = [row for row in rows if "ms" in row]
    print(told, measure.table(measured), sep="\n")
    for name, reason in dict.fromkeys((row["kernel"], row["why not"]) for row in rows if "why not" in row):
        print(f"{name} is left out where it {reason}" if reason.startswith("takes") else f"{name}: {reason}")
    measure.save(asked.output, told, rows)
    if asked.device == "cpu" and not any(name in os.environ for name in KEPT):
        again = [sys.executable, "-m", "benchmarks.neighborhood", *sys.argv[1:]]
        if asked.output:
            again += ["--output", str(asked.output.with_stem(asked.output.stem + "-kept-memory"))]
        subprocess.run(again, env=os.environ | KEPT, check=True)


if __name__ == "__main__":
    main()
