"""Ops and kernels: which kernel runs, reasons against kernels, second derivatives for penalties."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from blocks.ops.modulated_conv2d import modulated_conv2d
from registry import IncompatibleError, Kernel, KernelError, Op, Origin, catalogue, recording, second_order
from registry.kernels import counting, reference_kernels


class Reference(Kernel):
    op, name = "double", "reference"
    second_order, forward_ad = True, True

    def run(self, x: Tensor) -> Tensor:
        return x * 2


class Fused(Kernel):
    """Supports multiples of 4 only and has no second derivative."""

    op, name, priority = "double", "fused", 10

    def unsupported(self, x: Tensor) -> list[str]:
        return [] if x.shape[-1] % 4 == 0 else [f"takes sizes that 4 divides, got {x.shape[-1]}"]

    def run(self, x: Tensor) -> Tensor:
        return x + x


class Absent(Kernel):
    op, name, priority = "double", "absent", 20

    def unavailable(self) -> str:
        return "its library is not installed"


double = Op("double", Reference(), Fused(), Absent())


def kernel_that_runs(x: Tensor, kernel: str = "auto") -> str:
    with recording() as calls:
        torch.testing.assert_close(double(x, kernel=kernel), 2 * x)
    ((op, name),) = calls
    assert op == "double"
    return name


def test_the_kernel_of_highest_priority_that_supports_the_call_runs() -> None:
    assert [kernel.name for kernel in double.kernels()] == ["absent", "fused", "reference"]
    assert kernel_that_runs(torch.ones(8)) == "fused"
    assert kernel_that_runs(torch.ones(7)) == "reference"
    assert kernel_that_runs(torch.ones(8), kernel="reference") == "reference"


def test_under_second_order_only_kernels_with_second_derivatives_run() -> None:
    with second_order():
        assert kernel_that_runs(torch.ones(8)) == "reference"
        with second_order():
            assert kernel_that_runs(torch.ones(8)) == "reference"
        assert kernel_that_runs(torch.ones(8)) == "reference"
    assert kernel_that_runs(torch.ones(8)) == "fused"


def test_under_transforms_only_kernels_with_forward_mode_derivatives_run() -> None:
    bound, named, x = double.bind(), double.bind("fused"), torch.ones(8)
    with recording() as ran:
        _, derivative = torch.func.jvp(bound, (x,), (3 * x,))
        with torch.autograd.forward_ad.dual_level():
            bound(x)
        torch.func.grad(lambda x: bound(x).sum())(x)
        torch.func.vmap(bound)(x[None])
        bound(x)
    assert torch.equal(derivative, 6 * x)
    assert [kernel for _, kernel in ran] == ["reference", "reference", "reference", "reference", "fused"]
    with pytest.raises(KernelError, match="fused: has no forward-mode derivative, which"):
        torch.func.jvp(named, (x,), (x,))


def test_forward_mode_is_traced() -> None:
    torch._dynamo.reset()
    bound, x = double.bind(), torch.ones(8)
    plain = torch.compile(bound, fullgraph=True, backend="eager")
    forward = torch.compile(lambda x: torch.func.jvp(bound, (x,), (x,))[1], fullgraph=True, backend="eager")
    gradient = torch.compile(torch.func.grad(lambda x: bound(x).square().sum() / 4), fullgraph=True, backend="eager")
    for compiled in (plain, forward, gradient, plain):
        assert torch.equal(compiled(x), 2 * x)


def test_a_kernel_with_drawbacks_runs_only_if_all_others_have_some_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fused, "drawbacks", lambda self, x: ["slow for 8"] if x.shape[-1] == 8 else [])
    assert kernel_that_runs(torch.ones(4)) == "fused"
    assert kernel_that_runs(torch.ones(8)) == "reference"
    assert kernel_that_runs(torch.ones(8), kernel="fused") == "fused"
    monkeypatch.setattr(Reference, "drawbacks", lambda self, x: ["slow"])
    assert kernel_that_runs(torch.ones(8)) == "fused"
    with second_order():
        assert kernel_that_runs(torch.ones(8)) == "reference"


def test_an_error_lists_the_reasons_of_a_named_kernel() -> None:
    bound = double.bind("fused")
    with pytest.raises(KernelError) as caught, second_order():
        bound(torch.ones(7))
    assert str(caught.value).splitlines() == [
        "no kernel of double supports this call (kernel='fused')",
        "  fused: takes sizes that 4 divides, got 7; has no second derivative, and a gradient penalty needs one",
    ]


def test_a_named_kernel_that_cannot_run_here_is_refused_when_bound() -> None:
    with pytest.raises(
        IncompatibleError, match="kernel 'absent' cannot run here: its library is not installed; take 'auto'"
    ):
        double.bind("absent")
    with pytest.raises(IncompatibleError, match="double has no kernel 'fusde'; did you mean 'fused'"):
        double.bind("fusde")


def test_a_plugin_adds_a_kernel() -> None:
    class Faster(Fused):
        name, priority = "faster", 30

    kernel = Faster()
    before = double.bind()
    catalogue.register_kernel(kernel, Origin("toys", "toys", "1"))
    try:
        assert kernel_that_runs(torch.ones(8)) == "faster"
        assert double.bind().candidates[0] is kernel
        assert kernel not in before.candidates  # a bound op keeps its kernels
    finally:
        catalogue._items.pop(("kernel", "double", "faster"))


class Compiling(Fused):
    name, priority, compiles = "compiling", 40, True
    reason: str | None = None
    compilations = 0

    def unavailable(self) -> str | None:
        self.compilations += 1
        return self.reason


@pytest.fixture
def compiling() -> Iterator[Compiling]:
    kernel = Compiling()
    catalogue.register_kernel(kernel, Origin("toys", "toys", "1"))
    torch._dynamo.reset()
    yield kernel
    torch._dynamo.reset()
    catalogue._items.pop(("kernel", "double", "compiling"))


def test_a_kernel_that_compiles_does_so_at_the_first_call_that_runs_it(compiling: Compiling) -> None:
    bound = double.bind()
    bound(torch.ones(7))
    with second_order():
        bound(torch.ones(8))
    assert compiling.compilations == 0
    with recording() as ran:
        bound(torch.ones(8))
    assert (ran, compiling.compilations) == ([("double", "compiling")], 1)


@pytest.mark.parametrize(("reason", "runs"), [(None, "compiling"), ("no compiler", "fused")])
def test_a_kernel_that_compiles_is_traced(compiling: Compiling, reason: str | None, runs: str) -> None:
    compiling.reason = reason
    bound = double.bind()
    with recording() as ran:
        torch.compile(bound, fullgraph=True, backend="eager")(torch.ones(8))
    assert ran == [("double", runs)]


class Doubling(nn.Module):
    def __init__(self, kernel: str = "auto") -> None:
        super().__init__()
        self.double = double.bind(kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.double(x)


@pytest.fixture
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_fresh_dynamo")
def test_the_selection_is_traced_and_repeated_for_a_penalty() -> None:
    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        graphs.append(graph.code)
        return graph.forward

    compiled = torch.compile(Doubling(), fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(torch.ones(8)), torch.full((8,), 2.0))
    with second_order():
        torch.testing.assert_close(compiled(torch.ones(8)), torch.full((8,), 2.0))
    compiled(torch.ones(8))
    assert len(graphs) == 2
    assert "+" in graphs[0]
    assert "*" in graphs[1]


def test_a_bound_op_can_be_copied_and_pickled() -> None:
    block = Doubling("reference")
    for twin in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        torch.testing.assert_close(twin(torch.ones(3)), block(torch.ones(3)))
        assert twin.double.kernel == "reference"
    assert repr(block.double) == "double[reference]"
    assert repr(Fused()) == "<kernel fused of double>"


def test_recordings_nest_and_end() -> None:
    with recording() as outer:
        double(torch.ones(4))
        with recording() as inner:
            double(torch.ones(3))
    double(torch.ones(4))
    assert outer == [("double", "fused")]
    assert inner == [("double", "reference")]


def test_counting_leaves_out_the_zeros_that_upsampling_inserts():
    counts = []
    for kernels in (counting, reference_kernels):
        with kernels(), FlopCounterMode(display=False) as counter:
            modulated_conv2d(*map(torch.zeros, ((1, 16, 8, 8), (16, 16, 3, 3), (1, 16))), demodulate=False, up=2)
        counts.append(counter.get_total_flops() // 2)
    needed = 8 * 8 * 16 * 16 * 9
    assert needed <= counts[0] < 1.1 * needed
    assert counts[1] > 3 * needed
