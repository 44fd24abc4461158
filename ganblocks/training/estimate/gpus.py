"""Memory and peak rates of GPUs, as NVIDIA's data sheets state them: dense matrix products, without sparsity."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

from ganblocks.errors import UsageError
from ganblocks.precision import Precision
from registry.errors import nearest


class GPU(NamedTuple):
    """A GPU.

    Args:
        memory: In bytes.
        flops: Peak of floating-point operations per second by precision.
    """

    memory: float
    flops: dict[Precision, float]


def _gpu(gigabytes: float, fp32: float, tf32: float, half: float) -> GPU:
    rates = {"fp32": fp32, "tf32": tf32, "bf16": half, "fp16": half}
    return GPU(gigabytes * 1e9, {name: tera * 1e12 for name, tera in rates.items()})  # type: ignore[misc]


GPUS = {
    "a100-40gb": _gpu(40, 19.5, 156, 312),
    "a100": _gpu(80, 19.5, 156, 312),
    "h100": _gpu(80, 67, 494, 989),
    "h200": _gpu(141, 67, 494, 989),
    "l4": _gpu(24, 30.3, 60, 121),
    "l40s": _gpu(48, 91.6, 183, 362),
    "rtx3090": _gpu(24, 35.6, 35.6, 71),
    "rtx4090": _gpu(24, 82.6, 82.6, 165),
}


def gpu_named(name: str) -> GPU:
    """A GPU by its name.

    Raises:
        UsageError: There is no such GPU.
    """
    if name.lower() not in GPUS:
        raise UsageError(f"--gpu: unknown GPU {name!r}; {nearest(name, list(GPUS))}")
    return GPUS[name.lower()]


def matmul_rate(device: torch.device) -> float:
    """Floating-point operations per second of a matrix product in float32 on a device here, the fastest of five."""
    size = 1024
    a = torch.ones(size, size, device=device)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        (a @ a)[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return float(2 * size**3 / min(seconds))
