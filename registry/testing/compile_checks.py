"""Checks of torch.compile and torch.export."""

from __future__ import annotations

import shutil
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor, nn
from torch.export import Dim, export

from registry.testing.cases import Called, Case
from registry.testing.gradient_checks import outputs_and_gradients
from registry.testing.harness import Inputs


def compiles_to_the_same_numbers(case: Case) -> None:
    """torch.compile captures a call as one graph; its outputs and gradients are those of eager mode."""
    _compare_compiled(case, backend="eager")


def compiles_to_machine_code(case: Case) -> None:
    """The same with the inductor backend."""
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        raise SkipTest("there is no C++ compiler")
    _compare_compiled(case, backend="inductor", options={"fallback_random": True}, rtol=1e-3, atol=1e-4)


def exports(case: Case) -> None:
    """A program of torch.export gives the outputs of eager mode; if there is a batch, also with a larger one."""
    module = case.build().eval()
    inputs = larger = case.inputs(module)
    batch = None
    if case.harness.batched:
        larger = {name: None if value is None else torch.cat([value, value[:1]]) for name, value in inputs.items()}
        batch = ({name: None if value is None else {0: Dim.DYNAMIC} for name, value in inputs.items()},)
    with torch.no_grad():
        program = export(_OneArgument(module), (inputs,), dynamic_shapes=batch).module()
        torch.manual_seed(2)
        outputs, expected = program(larger), case.run(module, larger)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)


class _OneArgument(nn.Module):
    """Takes the inputs as one dictionary, because torch.export does not name keyword arguments of any number."""

    def __init__(self, called: Called) -> None:
        super().__init__()
        self.called = called

    def forward(self, inputs: Inputs) -> Any:
        return self.called(**inputs)


def _compare_compiled(case: Case, *, rtol: float = 1e-4, atol: float = 1e-5, **how: Any) -> None:
    torch._dynamo.reset()
    eager, again, traced = case.build(), case.build(), case.build()
    inputs = case.inputs(eager)
    expected = outputs_and_gradients(case, eager, eager, inputs)
    results: list[Tensor | None] = outputs_and_gradients(
        case, traced, torch.compile(traced, fullgraph=True, **how), inputs
    )
    if how["backend"] == "eager" or not _is_random(case, again, inputs):  # compilers drop draws that are not used
        torch.testing.assert_close(results, expected, rtol=rtol, atol=atol)


def _is_random(case: Case, module: Called, inputs: Inputs) -> bool:
    first = case.run(module, inputs)
    torch.manual_seed(3)
    return not all(torch.equal(*pair) for pair in zip(first, module(**inputs), strict=True))
