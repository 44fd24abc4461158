"""Calls of ops, for tests of kernels: a kernel agrees with its op's reference kernel in float64.

A package that declares ops lists calls of them in its module `testing`, as `blocks.testing` does:

    CALLS = {"attention": function of a batch size that returns a list of calls}
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from registry.kernels import Kernel, Op

TOLERANCE = {
    torch.float64: {"rtol": 1e-8, "atol": 1e-9},
    torch.float32: {"rtol": 1e-3, "atol": 1e-4},
    torch.bfloat16: {"rtol": 3e-2, "atol": 3e-2},
    torch.float16: {"rtol": 4e-3, "atol": 4e-3},
}  # of values; and of gradients, relative to the largest


@dataclass(frozen=True)
class Call:
    """A call of an op.

    Args:
        tensors: The tensors, by the names of the arguments.
        options: The other arguments.
        leaves: Names of the tensors that gradients are computed for.
        batched: Names of the tensors whose first axis is the batch.
    """

    tensors: dict[str, Tensor]
    options: dict[str, Any]
    leaves: tuple[str, ...]
    batched: tuple[str, ...]

    def __str__(self) -> str:
        shapes = ", ".join(f"{name}={list(value.shape)}" for name, value in self.tensors.items())
        return ", ".join([shapes, *(f"{name}={value}" for name, value in self.options.items())])

    def run(self, kernel: Any) -> Tensor:
        """The result of a kernel, or of anything else that is called like its op."""
        result: Tensor = getattr(kernel, "run", kernel)(**self.tensors, **self.options)
        return result

    def unsupported(self, kernel: Kernel) -> list[str]:
        return kernel.unsupported(**self.tensors, **self.options)

    def gradients(self, y: Tensor, **options: Any) -> tuple[Tensor, ...]:
        """Gradients of a fixed loss for the leaves."""
        leaves = [self.tensors[name] for name in self.leaves]
        return torch.autograd.grad(y.square().sum(), leaves, materialize_grads=True, **options) if leaves else ()

    def second_gradients(self, kernel: Any) -> tuple[Tensor, ...]:
        """Gradients of the sum of the squared gradients."""
        first = self.gradients(self.run(kernel), create_graph=True)
        return self.gradients(torch.stack([gradient.square().sum() for gradient in first]))

    def to(self, dtype: torch.dtype, device: torch.device | str | None = None) -> Call:
        """The same call in another dtype, also on another device, with leaves of its own."""
        moved = {name: x.detach().to(device, dtype) for name, x in self.tensors.items()}
        return replace(self, tensors={name: x.requires_grad_(name in self.leaves) for name, x in moved.items()})

    def bound_to(self, kernel: Kernel) -> Callable[..., Tensor]:
        """The kernel as a function of the tensors."""
        return partial(kernel.run, **self.options)

    def with_batch(self, batch: int) -> Call:
        """The same call with another batch size."""
        tensors = {}
        for name, x in self.tensors.items():
            batched = name in self.batched
            y = x.detach().repeat(-(-batch // x.shape[0]), *[1] * (x.ndim - 1))[:batch] if batched else x.detach()
            tensors[name] = y.clone().requires_grad_(name in self.leaves)
        return replace(self, tensors=tensors)

    def without_gradients(self) -> Call:
        return replace(self, leaves=(), tensors={name: x.detach() for name, x in self.tensors.items()})


def calls_of(op: Op) -> list[Call]:
    """The calls of an op, in float64, from the module `testing` of the package that declares it.

    Raises:
        LookupError: There are none.
    """
    module = type(op.reference).__module__.partition(".")[0] + ".testing"
    try:
        calls = import_module(module).CALLS
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        calls = {}
    if op.name not in calls:
        raise LookupError(f"op {op.name} has no calls to test kernels with: add them to CALLS in {module}")
    listed: list[Call] = calls[op.name]()
    return listed
