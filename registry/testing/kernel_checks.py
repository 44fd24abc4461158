"""Checks of a kernel: it agrees with its op's reference kernel in all calls that it supports.

The calls are those of the op, in four dtypes; `Kernel.unsupported`, `second_order` and `forward_ad` select among them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from unittest import SkipTest

import torch
from torch import Tensor

from registry.kernels import Kernel, Op
from registry.testing.calls import TOLERANCE, Call, calls_of

STEP = 1e-5  # of central differences in float64


class KernelCheck(NamedTuple):
    """One check of a kernel in one call; call it to run it, on the CPU by default."""

    function: Callable[[Kernel, Call], None]
    kernel: Kernel
    number: int
    call: Call
    dtype: torch.dtype

    def __call__(self, device: str = "cpu") -> None:
        call = self.call.to(self.dtype, device)
        if reason := self.kernel.unavailable():
            raise SkipTest(f"kernel {self.kernel.name} cannot run here: {reason}")
        if reasons := call.unsupported(self.kernel):
            raise SkipTest("; ".join(reasons))
        self.function(self.kernel, call)

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"kernel/{self.kernel.op}/{self.kernel.name}/call{self.number}/{dtype}/{self.function.__name__}"


def kernel_checks(kernel: Kernel, device: str = "cpu") -> list[KernelCheck]:
    """All checks of a kernel, over the calls of its op that it supports on a device.

    Raises:
        LookupError: There is no such op, or no calls of it.
    """
    if kernel.op not in Op.ops:
        raise LookupError(f"kernel {kernel.name} is of op {kernel.op!r}, which does not exist; there are {[*Op.ops]}")
    calls = calls_of(Op.ops[kernel.op])
    selected = [KernelCheck(supports_a_call, kernel, 0, calls[0], torch.float32)]
    for number, call in enumerate(calls):
        selected += [KernelCheck(agrees_with_the_reference, kernel, number, call, dtype) for dtype in TOLERANCE]
        selected.append(KernelCheck(takes_an_empty_batch, kernel, number, call, torch.float32))
        if kernel.second_order and call.leaves:
            selected.append(KernelCheck(differentiates_twice, kernel, number, call, torch.float64))
        if kernel.forward_ad and call.leaves:
            selected.append(KernelCheck(differentiates_forward, kernel, number, call, torch.float64))
    return (
        selected[:1] if kernel.unavailable() else [selected[0], *(each for each in selected[1:] if _runs(each, device))]
    )


def _runs(check: KernelCheck, device: str) -> bool:
    return not check.call.to(check.dtype, device).unsupported(check.kernel)


def supports_a_call(kernel: Kernel, call: Call) -> None:
    """The kernel supports one of the op's calls in some dtype, or says why not."""
    device = next(iter(call.tensors.values())).device
    refused = [
        (each.to(dtype, device), reasons)
        for dtype in TOLERANCE
        for each in calls_of(Op.ops[kernel.op])
        if (reasons := each.to(dtype, device).unsupported(kernel))
    ]
    every = len(TOLERANCE) * len(calls_of(Op.ops[kernel.op]))
    facts = "; ".join(dict.fromkeys(reason for _, reasons in refused for reason in reasons))
    if len(refused) == every and device.type == "cpu" and "cuda" in facts.lower():
        raise SkipTest(facts)
    assert len(refused) < every, f"supports none of the {every} calls of {kernel.op}: {facts}"


def agrees_with_the_reference(kernel: Kernel, call: Call) -> None:
    """Values and gradients are those of the reference kernel in float64."""
    (dtype,) = {x.dtype for x in call.tensors.values()}
    exact = call.to(torch.float64)
    y, expected = call.run(kernel), exact.run(Op.ops[kernel.op].reference)
    assert y.dtype == dtype, f"{dtype} became {y.dtype}"
    assert y.shape == expected.shape, f"returns {list(y.shape)}; the reference kernel returns {list(expected.shape)}"
    _compare("the values", y, expected, dtype, relative=False)
    pairs = zip(call.leaves, call.gradients(y), exact.gradients(expected), strict=True)
    for name, gradient, wanted in pairs:
        _compare(f"the gradient of {name}", gradient, wanted, dtype)


def takes_an_empty_batch(kernel: Kernel, call: Call) -> None:
    """A batch of 0 gives a batch of 0."""
    y, empty = call.run(kernel), call.with_batch(0)
    if reasons := empty.unsupported(kernel):
        raise SkipTest("; ".join(reasons))
    shape = tuple(empty.run(kernel).shape)
    assert shape == (0, *y.shape[1:]), f"a batch of 0 gives {shape} instead of {(0, *y.shape[1:])}"


def differentiates_twice(kernel: Kernel, call: Call) -> None:
    """With `second_order`, second derivatives are those of the reference kernel."""
    pairs = zip(call.leaves, call.second_gradients(kernel), call.second_gradients(_reference(kernel)), strict=True)
    for name, gradient, wanted in pairs:
        _compare(f"the second derivative with respect to {name}", gradient, wanted, torch.float32)


def differentiates_forward(kernel: Kernel, call: Call) -> None:
    """With `forward_ad`, the derivative by dual numbers is that of the reference kernel by differences."""
    directions = {name: _direction(call.tensors[name], seed) for seed, name in enumerate(call.leaves)}
    fixed = {name: x.detach() for name, x in call.tensors.items() if name not in directions} | call.options
    primals = tuple(call.tensors[name].detach() for name in directions)

    def run(*leaves: Tensor) -> Tensor:
        result: Tensor = kernel.run(**dict(zip(directions, leaves, strict=True)), **fixed)
        return result

    def moved(step: float) -> Tensor:
        leaves = {name: call.tensors[name].detach() + step * direction for name, direction in directions.items()}
        result: Tensor = _reference(kernel).run(**leaves, **fixed)
        return result

    derivative: Tensor = torch.func.jvp(run, primals, tuple(directions.values()))[1]
    _compare("the forward-mode derivative", derivative, (moved(STEP) - moved(-STEP)) / (2 * STEP), torch.float32)


def _reference(kernel: Kernel) -> Kernel:
    return Op.ops[kernel.op].reference


def _direction(like: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device="cpu").to(like.device)


def _compare(what: str, actual: Tensor, expected: Tensor, dtype: torch.dtype, *, relative: bool = True) -> None:
    """Compare with a result in float64, by the tolerance of `dtype`, `relative` to the largest of at least 1."""
    largest = expected.abs().max().clamp(min=1.0) if relative and expected.numel() else 1.0
    close = torch.isclose(actual.double() / largest, expected / largest, **TOLERANCE[dtype], equal_nan=True)
    error = (actual.double() - expected).abs().max().item() if expected.numel() else 0.0
    wrong = int((~close).sum())
    assert close.all(), (
        f"{what} differ from the reference kernel's in {wrong} of {close.numel()} numbers, by up to {error:.3g}"
    )
