"""Example calls of every op, and the comparison with a float64 reference that the kernel tests share.

`python -m tests.blocks.ops.examples DTYPE [DEFAULT_DEVICE [DEVICE]]` compares every kernel in a process with other
defaults of torch, with tensors on DEVICE.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

import blocks.ops  # noqa: F401  (registers the ops)
from registry import Kernel, Op

BATCHED = {  # tensors with a batch axis
    "attention": "q k v",
    "bias_act": "x",
    "conv2d": "x",
    "grid_sample": "x coordinates",
    "l2_attention": "q k v",
    "modulated_conv2d": "x style",
    "neighborhood_attention": "q k v",
    "upfirdn2d": "x",
}
TOLERANCE = {torch.float32: dict(rtol=1e-3, atol=1e-4), torch.float64: dict(rtol=1e-8, atol=1e-9)}
HALF = {torch.bfloat16: dict(rtol=3e-2, atol=3e-2), torch.float16: dict(rtol=4e-3, atol=4e-3)}


@dataclass(frozen=True)
class Example:
    """A call of an op, with the names of the tensors that gradients are computed for."""

    tensors: dict[str, Tensor]
    options: dict[str, Any]
    leaves: tuple[str, ...]
    batched: tuple[str, ...]

    def run(self, kernel: Any) -> Tensor:
        """The result of a kernel, or of anything else that is called like its op."""
        return getattr(kernel, "run", kernel)(**self.tensors, **self.options)

    def unsupported(self, kernel: Kernel) -> list[str]:
        return kernel.unsupported(**self.tensors, **self.options)

    def gradients(self, y: Tensor, **options: Any) -> tuple[Tensor, ...]:
        """Gradients of a fixed loss for the leaves."""
        leaves = [self.tensors[name] for name in self.leaves]
        return torch.autograd.grad(y.square().sum(), leaves, materialize_grads=True, **options) if leaves else ()

    def to(self, dtype: torch.dtype) -> Example:
        """The same call in another dtype, with leaves of its own."""
        tensors = {name: x.detach().to(dtype).requires_grad_(name in self.leaves) for name, x in self.tensors.items()}
        return replace(self, tensors=tensors)

    def bound_to(self, kernel: Kernel) -> Callable[..., Tensor]:
        """The kernel as a function of the tensors."""
        return partial(kernel.run, **self.options)

    def with_batch(self, batch: int) -> Example:
        """The same call with another batch size."""
        tensors = {}
        for name, x in self.tensors.items():
            batched = name in self.batched
            y = x.detach().repeat(-(-batch // x.shape[0]), *[1] * (x.ndim - 1))[:batch] if batched else x.detach()
            tensors[name] = y.clone().requires_grad_(name in self.leaves)
        return replace(self, tensors=tensors)

    def without_gradients(self) -> Example:
        return replace(self, leaves=(), tensors={name: x.detach() for name, x in self.tensors.items()})


def examples(
    op: str, batch: int = 2, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> list[Example]:
    """Calls of an op that together every one of its kernels can serve."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu").to(device)

    def example(options: dict[str, Any], leaves: str, **tensors: Tensor) -> Example:
        return Example(tensors, options, tuple(leaves.split()), tuple(BATCHED[op].split())).to(dtype)

    match op:
        case "attention":
            q, k, v, bias = normal(batch, 2, 6, 8), normal(batch, 2, 5, 8), normal(batch, 2, 5, 8), normal(2, 6, 5)
            calls = [
                example({}, "q k v bias", q=q, k=k, v=v, bias=bias),
                example({"scale": 0.3}, "q k v", q=q, k=k, v=v),
            ]
        case "bias_act":
            x, bias = normal(batch, 3, 4, 5), normal(3)
            calls = [
                example({"activation": "lrelu", "clamp": 1.0}, leaves, x=x, bias=bias) for leaves in ("x bias", "")
            ]
        case "conv2d":
            x, weight, bias = normal(batch, 64, 16, 18), normal(64, 64, 3, 3) / 24, normal(64)
            calls = [example({"padding": 1}, "x weight bias", x=x, weight=weight, bias=bias)]
        case "grid_sample":
            x, coordinates = normal(batch, 3, 6, 7), 3 + 3 * normal(batch, 4, 5, 2)
            calls = [example({}, leaves, x=x, coordinates=coordinates) for leaves in ("x", "x coordinates")]
        case "l2_attention":
            q, k, v = normal(batch, 2, 6, 8), normal(batch, 2, 520, 8), normal(batch, 2, 520, 8)
            calls = [example({}, leaves, q=q, k=k, v=v) for leaves in ("q k v", "q v")]
        case "modulated_conv2d":
            x, weight, style = normal(batch, 8, 5, 6), normal(6, 8, 3, 3), normal(batch, 8) + 2
            filter = torch.tensor([1, 3, 3, 1], device=device)
            filter = torch.outer(filter, filter).double() / 64
            calls = [
                example({"flip_kernel": True}, "x weight style", x=x, weight=weight, style=style),
                example({"up": 2}, "x weight style", x=x, weight=weight, style=style, filter=filter),
            ]
        case "neighborhood_attention":
            q, k, v, bias = (*(normal(batch, 12, 14, 2, 16) for _ in range(3)), normal(2, 5, 5))
            window = {"kernel_size": 3, "dilation": 2}
            calls = [example(window, "q k v bias", q=q, k=k, v=v, bias=bias), example(window, "q k v", q=q, k=k, v=v)]
        case "upfirdn2d":
            x, short, long = normal(batch, 3, 8, 9), normal(4, 4), normal(9)
            calls = [
                example({"up": 2, "padding": (2, 1, 2, 1)}, "x", x=x, filter=short),
                example({"down": 2, "padding": (1, 1, 1, 1)}, "x filter", x=x, filter=short),
                example({"up": 2, "down": 2, "padding": (4, 4, 4, 4)}, "x filter", x=x, filter=long),
            ]
        case _:
            raise LookupError(f"no example calls the op {op}; add one")
    return calls


def ops() -> list[Op]:
    """The ops of this package; tests register more."""
    return [Op.ops[name] for name in BATCHED]


def cases(batch: int = 2, device: torch.device | str = "cpu") -> Iterator[tuple[Kernel, Example]]:
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


def compare(kernel: Kernel, example: Example) -> None:
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


def main(dtype: str, default_device: str = "cpu", device: str = "cpu") -> None:
    torch.set_default_dtype(getattr(torch, dtype))
    torch.set_default_device(default_device)
    torch.backends.cudnn.allow_tf32 = False
    for kernel, example in cases(device=device):
        for _ in range(5):  # a buffer that is too small corrupts the heap, which a later call notices
            compare(kernel, example)
        print(f"{kernel.op} {kernel.name}: ok", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
