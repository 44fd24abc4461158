"""Dense attention, with and without bias, by distances, and of Linformer: kernels side by side.

python -m benchmarks.dense [--quick] [--device cuda] prints a table and writes JSON into benchmarks/results.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import measure
from blocks.ops.attention import attention
from blocks.ops.l2_attention import l2_attention
from registry import Kernel, Op

CASES = ("dense", "biased", "l2", "linformer")
SIZES = ((16, 6, 64, 64), (4, 4, 256, 32), (2, 4, 1024, 32))  # batch, heads, tokens, head size
QUICK = ((2, 2, 16, 8),)
LINFORMER_KEYS = 256


def draw(case: str, size: tuple[int, ...], device: str, gradients: bool) -> tuple[list[Tensor], dict[str, Tensor]]:
    """q, k and v of a case, and its bias; Linformer's keys and values are projected to fewer (the mixing is timed)."""
    batch, heads, tokens, head_dim = size
    keys = min(LINFORMER_KEYS, tokens // 2) if case == "linformer" else tokens
    shapes = [(batch, heads, n, head_dim) for n in (tokens, keys, keys)]
    qkv = [torch.randn(shape, device=device, requires_grad=gradients) for shape in shapes]
    if case != "biased":
        return qkv, {}
    return qkv, {"bias": torch.randn(heads, tokens, tokens, device=device, requires_grad=gradients)}


def op_of(case: str) -> Op:
    return l2_attention if case == "l2" else attention


def find(op: Op, name: str) -> Kernel:
    return next(kernel for kernel in op.kernels() if kernel.name == name)


def runs(case: str, name: str, size: tuple[int, ...], device: str, gradients: bool) -> Callable[[], object]:
    """What is timed: a kernel on inputs of a case, and its gradients."""
    torch.manual_seed(0)
    qkv, options = draw(case, size, device, gradients)
    kernel = find(op_of(case), name)
    kernel.unavailable()
    run: Callable[[], Tensor] = partial(kernel.run, *qkv, **options)
    return measure.training(run, [*qkv, *options.values()]) if gradients else run


def rows_of(case: str, size: tuple[int, ...], gradients: bool, asked: Any, rate: float) -> list[dict[str, Any]]:
    qkv, options = draw(case, size, asked.device, gradients)
    op, (batch, heads, tokens, head_dim) = op_of(case), size
    told = {"case": case, "batch": batch, "heads": heads, "tokens": tokens, "head_dim": head_dim}
    told["pass"] = "forward+backward" if gradients else "forward"
    able = [kernel for kernel in op.kernels() if not (kernel.unavailable() or kernel.unsupported(*qkv, **options))]
    times = measure.medians(
        measure.interleaved(
            {kernel.name: runs(case, kernel.name, size, asked.device, gradients) for kernel in able},
            rounds=3 if asked.quick else 7,
            device=asked.device,
            seconds=1.5,
        )
    )
    operations = (3 if gradients else 1) * 4 * batch * heads * tokens * qkv[1].shape[2] * head_dim
    weigh = not asked.quick and tokens >= 1024
    return [
        told
        | {
            "kernel": kernel.name,
            "ms": 1e3 * times[kernel.name],
            "times reference": times["reference"] / times[kernel.name],
            "matmul rate %": 100 * operations / times[kernel.name] / rate,
            "peak MB": peak(case, kernel.name, size, asked.device, gradients) if weigh else None,
        }
        for kernel in able
    ]


def peak(*case: Any) -> float | None:
    grown = measure.peak_memory(runs, *case, device=case[3])
    return None if grown is None else grown / 1e6


def main() -> None:
    asked = measure.arguments(__doc__ or "", "dense")
    machine, rate = (
        measure.machine(asked.device),
        measure.matmul_rate(device=asked.device, side=256 if asked.quick else 2048),
    )
    told = machine | {"matmul_gflops": rate / 1e9}
    rows = []
    with torch.random.fork_rng():
        for case in CASES:
            for size in QUICK if asked.quick else SIZES:
                for gradients in (False, True):
                    rows += rows_of(case, size, gradients, asked, rate)
    print(told, measure.table(rows), sep="\n")
    measure.save(asked.output, told, rows)


if __name__ == "__main__":
    main()
