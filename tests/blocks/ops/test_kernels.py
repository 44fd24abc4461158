"""What every kernel of every op has to do, whichever op it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from registry import Kernel, KernelError, Op
from registry.testing.calls import Call as Example
from registry.testing.kernel_checks import KernelCheck, kernel_checks
from tests.blocks.ops.examples import BATCHED, HALF, TOLERANCE, cases, examples, ops
from tests.budget import FULL
from tests.tensors import normal

pytestmark = pytest.mark.usefixtures("device")
ROOT = Path(__file__).parents[3]
DEVICE = torch.get_default_device()  # of the option --device
NOT_TRACED = {
    "bias_act": {"triton"},
    "conv2d": {"winograd"},
    "grid_sample": {"linear"},
    "neighborhood_attention": {"tiled-math"},
    "upfirdn2d": {"linear", "triton"},
}


def parameters(batch: int = 2) -> list[Any]:
    named: dict[str, int] = {}
    rows = []
    for kernel, example in cases(batch, DEVICE):
        name = f"{kernel.op}-{kernel.name}"
        named[name] = named.get(name, 0) + 1
        rows.append(pytest.param(kernel, example, id=f"{name}-{named[name]}"))
    return rows


CASES = parameters()
DIFFERENTIABLE = [case for case in CASES if case.values[1].leaves]
TRACED = [case for case in CASES if case.values[0].name not in NOT_TRACED.get(case.values[0].op, ())]
ONCE = TRACED if FULL else [case for case in TRACED if str(case.id).endswith("-1")]  # the first example of each kernel


def tried_with_any_map(kernel: Kernel) -> bool:
    """Whether test_neighborhood_attention.py traces the kernel for any batch, height and width, with gradients."""
    return kernel.op == "neighborhood_attention" and kernel.name != "reference"


def exact_where_supported(kernel: Kernel, example: Example) -> Example:
    """The example in float64 if the kernel supports that, otherwise in its own dtype."""
    exact = example.to(torch.float64)
    return example if exact.unsupported(kernel) else exact


def dynamo(run: Any, **options: Any) -> Any:
    torch._dynamo.reset()
    return torch.compile(run, fullgraph=True, **options)


def test_every_op_and_every_kernel_that_runs_here_has_an_example():
    assert {name for name, op in Op.ops.items() if type(op.reference).__module__.startswith("blocks.")} == set(BATCHED)
    here = {(op.name, kernel.name) for op in ops() for kernel in op.kernels() if kernel.unavailable() is None}
    assert here <= {(kernel.op, kernel.name) for device in {"cpu", DEVICE.type} for kernel, _ in cases(device=device)}


@pytest.mark.parametrize(
    "check", [check for op in ops() for kernel in op.kernels() for check in kernel_checks(kernel, str(DEVICE))], ids=str
)
def test_every_kernel_conforms(check: KernelCheck):
    check(str(DEVICE))


@pytest.mark.parametrize(("kernel", "example"), DIFFERENTIABLE)
def test_gradients_are_the_same_under_gradient_checkpointing(kernel: Kernel, example: Example):
    expected = example.gradients(example.run(kernel))
    y = checkpoint(example.run, kernel, use_reentrant=False)
    torch.testing.assert_close(example.gradients(y), expected)


@pytest.mark.parametrize(("kernel", "example"), DIFFERENTIABLE)
def test_a_second_derivative_is_right_or_raises(kernel: Kernel, example: Example):
    def second(kernel: Kernel, example: Example) -> tuple[Tensor, ...]:
        first = example.gradients(example.run(kernel), create_graph=True)
        return example.gradients(torch.stack([gradient.square().sum() for gradient in first]))

    example = exact_where_supported(kernel, example)
    try:
        gradients = second(kernel, example)
    except RuntimeError:
        assert not kernel.second_order
        return
    expected = second(Op.ops[kernel.op].reference, example.to(torch.float64))
    for gradient, wanted in zip(gradients, expected, strict=True):
        largest = wanted.abs().max()
        torch.testing.assert_close(gradient.double() / largest, wanted / largest, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("kernel", "example"), DIFFERENTIABLE)
def test_a_forward_mode_derivative_is_right_or_refused(kernel: Kernel, example: Example):
    op = Op.ops[kernel.op]
    example = exact_where_supported(kernel, example)
    if kernel.forward_ad:
        compare_forward(op.bind(kernel.name), example, op)
        return
    with pytest.raises(KernelError, match=rf"{kernel.name}: .*no forward-mode derivative, which torch.func"):
        compare_forward(op.bind(kernel.name), example, op)


@pytest.mark.parametrize("op", BATCHED)
def test_every_op_has_a_forward_mode_derivative(op: str):
    for example in [each for each in examples(op, device=DEVICE) if each.leaves]:
        for dtype in (torch.float32, torch.float64):
            compare_forward(Op.ops[op].bind(), example.to(dtype), Op.ops[op])


def compare_forward(run: Any, example: Example, op: Op) -> None:
    """Compare the derivative by dual numbers in one direction with central differences of the reference in float64."""
    names = example.leaves
    direction = {name: normal(*example.tensors[name].shape, seed=seed).to(DEVICE) for seed, name in enumerate(names)}
    fixed = {name: x.detach() for name, x in example.tensors.items() if name not in names} | example.options

    def moved(step: float) -> Tensor:
        exact = {name: x.detach().double() for name, x in example.tensors.items()}
        return op.reference.run(
            **exact | {name: exact[name] + step * direction[name] for name in names}, **example.options
        )

    primals = [example.tensors[name].detach() for name in names]
    tangents = [direction[name].to(primal.dtype) for name, primal in zip(names, primals, strict=True)]
    _, derivative = torch.func.jvp(
        lambda *leaves: run(**dict(zip(names, leaves, strict=True)), **fixed), tuple(primals), tuple(tangents)
    )
    expected = (moved(1e-5) - moved(-1e-5)) / 2e-5
    largest = expected.abs().max().clamp(min=1.0)
    torch.testing.assert_close(derivative.double() / largest, expected / largest, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("kernel", "example"), TRACED)
def test_every_kernel_is_traced_as_one_graph(kernel: Kernel, example: Example):
    compiled = dynamo(example.bound_to(kernel), dynamic=False, backend="aot_eager")
    compare_traced(compiled, kernel, example)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "example"), [case for case in ONCE if not tried_with_any_map(case.values[0])])
def test_every_kernel_is_traced_for_any_batch(kernel: Kernel, example: Example):
    compiled = dynamo(example.bound_to(kernel), dynamic=True, backend="aot_eager")
    for each in (example, example.with_batch(3)):
        compare_traced(compiled, kernel, each)


def compare_traced(compiled: Any, kernel: Kernel, example: Example) -> None:
    actual, expected = compiled(**example.tensors), example.run(kernel)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(example.gradients(actual), example.gradients(expected))


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "example"), ONCE)
def test_every_kernel_is_compiled_by_inductor(kernel: Kernel, example: Example):
    (dtype,) = {x.dtype for x in example.tensors.values()}
    example = example.to(dtype)  # tensors of its own: torch may have marked sizes of the shared ones as dynamic
    actual = dynamo(example.bound_to(kernel), dynamic=False)(**example.tensors)
    expected = example.run(kernel)
    torch.testing.assert_close(actual, expected, **(TOLERANCE | HALF)[dtype])
    for gradient, wanted in zip(example.gradients(actual), example.gradients(expected), strict=True):
        largest = wanted.abs().max()
        torch.testing.assert_close(gradient / largest, wanted / largest, **(TOLERANCE | HALF)[dtype])


@pytest.mark.parametrize(("op", "name"), [(op, name) for op, names in NOT_TRACED.items() for name in sorted(names)])
def test_a_kernel_that_cannot_be_traced_refuses(op: str, name: str):
    kernel = next(kernel for kernel in Op.ops[op].kernels() if kernel.name == name)
    example = examples(op, device=DEVICE)[0]
    reasons: list[str] = []

    def run() -> Tensor:
        reasons.extend(example.unsupported(kernel))
        return torch.zeros(()) + 1

    torch._dynamo.reset()
    torch.compile(run, backend="eager")()
    assert any("compile" in reason for reason in reasons)


class Exported(nn.Module):
    def __init__(self, run: Any, options: dict[str, Any]) -> None:
        super().__init__()
        self.run, self.options = run, options

    def forward(self, tensors: dict[str, Tensor]) -> Tensor:
        return self.run(**tensors, **self.options)


@pytest.mark.parametrize("op", BATCHED)
@pytest.mark.parametrize("kernel", ["auto", "each"])
def test_an_exported_op_takes_any_batch(op: str, kernel: str):
    runs = [Op.ops[op].bind()] * len(examples(op))
    pairs = list(zip(runs, examples(op, device=DEVICE), strict=True))
    if kernel == "each":
        pairs = [(each.run, example) for each, example in (case.values for case in TRACED) if each.op == op]
    largest = None if torch.__version__ >= (2, 11) else 1024  # 2.10 cannot read "batch <= 2147483647/240"
    batch = torch.export.Dim("batch", min=0, max=largest)
    for run, example in pairs:
        example = example.without_gradients()
        dynamic = {name: {0: batch} if name in BATCHED[op].split() else None for name in example.tensors}
        module = Exported(run, example.options)
        program = torch.export.export(module, (example.tensors,), dynamic_shapes=(dynamic,)).module()
        for number in (3, 7):
            other = example.with_batch(number)
            (dtype,) = {x.dtype for x in other.tensors.values()}
            torch.testing.assert_close(program(other.tensors), other.run(run), **(TOLERANCE | HALF)[dtype])


def test_results_do_not_depend_on_the_default_dtype_and_device():
    defaults = ["bfloat16 cpu", "float64 cpu", "float32 meta"]
    command = [sys.executable, "-m", "tests.blocks.ops.examples", str(DEVICE), *defaults]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)  # wrong memory can hang
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.count(": ok") == len(defaults) * len(CASES)
