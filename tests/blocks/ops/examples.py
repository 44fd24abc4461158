"""Example calls of every op, and the comparison with a float64 reference that the kernel tests share.

`python -m tests.blocks.ops.examples DEVICE "DTYPE DEFAULT_DEVICE" ...` compares every kernel in processes with other
defaults of torch, with tensors on DEVICE.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator

import torch

import blocks.ops  # noqa: F401  (registers the ops)
from blocks.ops.calls import BATCHED, FEW, calls
from registry import Kernel, Op
from registry.testing.calls import TOLERANCE as ALL
from registry.testing.calls import Call

TOLERANCE = {dtype: ALL[dtype] for dtype in (torch.float32, torch.float64)}
HALF = {dtype: ALL[dtype] for dtype in (torch.bfloat16, torch.float16)}


def examples(
    op: str, batch: int = 2, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> list[Call]:
    """A few calls of an op that together every one of its kernels can serve."""
    return [call.to(dtype, device) for call in calls(op, batch)[: FEW.get(op, 2)]]


def ops() -> list[Op]:
    """The ops of this package; tests register more."""
    return [Op.ops[name] for name in BATCHED]


def cases(batch: int = 2, device: torch.device | str = "cpu") -> Iterator[tuple[Kernel, Call]]:
    """Each kernel that runs here with each example that it supports at a batch of 2, in float32 or else in float16."""
    for op in ops():
        for kernel in op.kernels():
            if kernel.unavailable() is not None:
                continue
            for small, example in zip(
                examples(op.name, device=device), examples(op.name, batch, device=device), strict=True
            ):
                dtypes = [dtype for dtype in (torch.float32, torch.float16) if not small.to(dtype).unsupported(kernel)]
                if dtypes:
                    yield kernel, example.to(dtypes[0])


def kernels_on_device(op: Op) -> list[Kernel]:
    """The kernels of an op that support an example of it on the default device."""
    device = torch.get_default_device()
    return list(dict.fromkeys(kernel for kernel, _ in cases(device=device) if kernel in op.kernels()))


def compare(kernel: Kernel, example: Call) -> None:
    """Compare result and gradients of a kernel with the reference in float64.

    Raises:
        AssertionError: They differ.
    """
    (dtype,) = {x.dtype for x in example.tensors.values()}
    exact = example.to(torch.float64)
    tolerance = (TOLERANCE | HALF)[dtype]
    y, expected = example.run(kernel), exact.run(Op.ops[kernel.op].reference)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected, **tolerance)
    for name, gradient, wanted in zip(example.leaves, example.gradients(y), exact.gradients(expected), strict=True):
        largest = wanted.abs().max().clamp(min=1.0) if wanted.numel() else 1.0
        close = torch.isclose(gradient.double() / largest, wanted / largest, **tolerance)
        assert close.all(), f"gradient of {name}: {(~close).sum()} of {close.numel()} values differ"


def compare_all(dtype: str, default_device: str, device: str) -> None:
    torch.set_default_dtype(getattr(torch, dtype))
    torch.set_default_device(default_device)
    torch.backends.cudnn.allow_tf32 = False
    for kernel, example in cases(device=device):
        for _ in range(5):  # a buffer that is too small corrupts the heap, which a later call notices
            compare(kernel, example)
        print(f"{kernel.op} {kernel.name}: ok", flush=True)


def main(device: str, *defaults: str) -> None:
    for default in defaults:  # each in a process of its own, which finds no table that another one has cached
        process = multiprocessing.get_context("fork").Process(target=compare_all, args=(*default.split(), device))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(process.exitcode)


if __name__ == "__main__":
    main(*sys.argv[1:])
