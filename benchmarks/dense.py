"""Dense attention with and without bias, L2 attention, and Linformer's attention: kernels side by side.

python -m benchmarks.dense [--quick] [--device cuda] prints a table and writes JSON into benchmarks/results.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import measure
from blocks.ops.attention import attention
from blocks.ops.l2_attention import l2_attention
from registry import Op

CASES = ("dense", "biased", "l2", "linformer")
SIZES = ((16, 6, 64, 64), (4, 4, 256, 32), (2, 4, 1024, 32))  # batch, heads, tokens, head size
QUICK_SIZES = ((2, 2, 16, 8),)
LINFORMER_KEYS = 256


def draw(
    case: str, size: tuple[int, ...], device: str, gradients: bool, dtype: str = "float32"
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """q, k, v and the bias of a case. Linformer's keys and values are already projected to fewer tokens."""
    batch, heads, tokens, head_dim = size
    keys = min(LINFORMER_KEYS, tokens // 2) if case == "linformer" else tokens
    shapes = [(batch, heads, n, head_dim) for n in (tokens, keys, keys)]
    options = {"device": device, "dtype": getattr(torch, dtype), "requires_grad": gradients}
    qkv = [torch.randn(shape, **options) for shape in shapes]
    return qkv, {"bias": torch.randn(heads, tokens, tokens, **options)} if case == "biased" else {}


def op_of(case: str) -> Op:
    return l2_attention if case == "l2" else attention


def make_run(
    case: str, name: str, size: tuple[int, ...], device: str, gradients: bool, dtype: str = "float32"
) -> Callable[[], object]:
    """The timed function: a kernel, or a kernel and its gradients."""
    torch.manual_seed(0)
    qkv, kwargs = draw(case, size, device, gradients, dtype)
    kernel = next(kernel for kernel in op_of(case).kernels() if kernel.name == name)
    kernel.unavailable()  # binds the ops that the kernel calls
    run: Callable[[], Tensor] = partial(kernel.run, *qkv, **kwargs)
    return measure.training(run, [*qkv, *kwargs.values()]) if gradients else run


def measure_case(
    case: str, size: tuple[int, ...], gradients: bool, dtype: str, options: argparse.Namespace, rate: float
) -> list[dict[str, Any]]:
    """A row for each kernel that supports the call."""
    qkv, kwargs = draw(case, size, options.device, gradients, dtype)
    op, (batch, heads, tokens, head_dim) = op_of(case), size
    columns = {"case": case, "batch": batch, "heads": heads, "tokens": tokens, "head_dim": head_dim}
    columns |= {"dtype": dtype, "pass": "forward+backward" if gradients else "forward"}
    able = [kernel for kernel in op.kernels() if not (kernel.unavailable() or kernel.unsupported(*qkv, **kwargs))]
    runs, failures = measure.runnable(
        {kernel.name: partial(make_run, case, kernel.name, size, options.device, gradients, dtype) for kernel in able}
    )
    able = [kernel for kernel in able if kernel.name in runs]
    limit = 1.5 if options.device == "cpu" else 0.4
    rounds = 3 if options.quick else 7
    times = measure.medians(measure.interleaved(runs, rounds=rounds, device=options.device, seconds=limit))
    operations = (3 if gradients else 1) * 4 * batch * heads * tokens * qkv[1].shape[2] * head_dim
    with_memory = not options.quick and tokens >= 1024
    return [
        columns
        | {
            "kernel": kernel.name,
            "ms": 1e3 * times[kernel.name],
            "times reference": times["reference"] / times[kernel.name],
            "matmul rate %": 100 * operations / times[kernel.name] / rate,
            "peak MB": peak(case, kernel.name, size, options.device, gradients, dtype) if with_memory else None,
        }
        for kernel in able
    ] + [columns | {"kernel": name, "skipped": reason} for name, reason in failures.items()]


def peak(*case: Any) -> float | None:
    growth = measure.peak_memory(make_run, *case, device=case[3])
    return None if growth is None else growth / 1e6


def main() -> None:
    options = measure.parse_options(__doc__ or "", "dense")
    rate = measure.matmul_rate(device=options.device, side=256 if options.quick else 2048)
    machine = measure.machine(options.device) | {"matmul_gflops": rate / 1e9}
    rows: list[dict[str, Any]] = []
    with torch.random.fork_rng():
        for case in CASES:
            for size in QUICK_SIZES if options.quick else SIZES:
                for gradients in (False, True):
                    for dtype in ("float32",) if options.device == "cpu" else ("bfloat16", "float32"):
                        if measure.in_time(options, case, size, dtype):
                            rows += measure_case(case, size, gradients, dtype, options, rate)
                            measure.save(options.output, machine, rows)
    print(machine, measure.table(rows), sep="\n")


if __name__ == "__main__":
    main()
