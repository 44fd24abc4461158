"""What a block promises by being one; each check takes a case and raises AssertionError where the promise is broken."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import sys
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import SkipTest

import torch
import yaml
from pydantic import BaseModel
from torch import Tensor

from registry.kernels import second_order
from registry.spec import Block, Spec, parse_docstring
from registry.testing.cases import Called, Case, cases
from registry.testing.harness import Harness, Inputs

DTYPES = (torch.float64, torch.float32, torch.bfloat16)


class Check(NamedTuple):
    """One check of one case; call it to run it."""

    function: Callable[[Case], None]
    case: Case

    def __call__(self) -> None:
        self.function(self.case)

    def __str__(self) -> str:
        return f"{self.case}/{self.function.__name__}"


def checks(block: type[Block], *, harness: Harness | None = None, slow: bool = False) -> list[Check]:
    """All checks of a block, over its defaults and examples in all places of its family.

    Args:
        block: A block's class.
        driver: How blocks of its family are tried, for a family that is not the project's.
        slow: Give those instead that take many seconds each: compiling to machine code.

    Raises:
        LookupError: Nobody has said how blocks of this family are tried.
    """
    found: list[Check] = []
    options: list[dict[str, Any]] = []
    for case in cases(block, harness):
        compiled = (compiles_to_the_same_numbers,) if case.harness.traceable else ()
        if slow:
            return [Check(compiles_to_machine_code, case)] if compiled else []
        if not options:
            found.append(Check(is_documented, case))
        if case.options not in options:
            options.append(case.options)
            found += [Check(each, case) for each in (*SPEC_CHECKS, *compiled)]
        found += [Check(each, case) for each in CASE_CHECKS]
        if case.harness.smooth and block.twice_differentiable:
            found.append(Check(differentiates_twice, case))
    return found


def is_documented(case: Case) -> None:
    """A summary line, and a description of each argument and option."""
    summary, described = parse_docstring(case.block.__doc__)
    assert summary.endswith("."), f"the docstring's first line is no sentence: {summary!r}"
    fields = case.block.Context.model_fields | case.block.Spec.model_fields
    missing = [name for name, field in fields.items() if name != "kind" and not field.description]
    assert not missing, f"Args: says nothing of {', '.join(missing)}"
    unknown = sorted(set(described) - set(fields))
    assert not unknown, f"Args: describes {', '.join(unknown)}, which the signature does not have"


def reads_back_what_it_writes(case: Case) -> None:
    """Python, JSON, YAML and pickle are the same spec."""
    spec, model = case.spec, case.block.Spec
    assert model.model_validate(json.loads(json.dumps(spec.to_dict()))) == spec
    assert model.model_validate(yaml.safe_load(yaml.safe_dump(spec.to_dict()))) == spec
    assert model.model_validate_json(spec.model_dump_json()) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def shows_as_the_code_that_makes_it(case: Case) -> None:
    """`repr` can be evaluated, and says nothing that the defaults say already."""
    spec = case.spec
    assert eval(repr(spec), _names(spec)) == spec
    if not case.options:
        assert repr(spec) == f"{case.block.__name__}.Spec()"


def gives_the_promised_shapes(case: Case) -> None:
    """The family's contract, on memory and on the meta device."""
    module = case.build()
    assert module.block.spec == case.spec
    inputs = case.inputs(module)
    found = [tuple(each.shape) for each in case.run(module, inputs)]
    expected = case.harness.shapes(module.block, case.context, inputs)
    agrees = [_agrees(*pair) for pair in zip(found, expected, strict=True)]
    assert all(agrees), f"the shapes are {found}, the family promises {expected}"
    with torch.device("meta"):
        planned = case.build()
    outputs = case.run(planned, case.inputs(module, device="meta"))
    assert [tuple(each.shape) for each in outputs] == found, "the meta device gives other shapes"
    assert all(each.is_meta for each in (*outputs, *planned.parameters(), *planned.buffers()))


def keeps_dtype_and_device(case: Case) -> None:
    """float64, float32 and, where its operations exist, bfloat16."""
    for device in ("cpu", *(("cuda",) if torch.cuda.is_available() else ())):
        for dtype in DTYPES:
            module = case.build().to(device, dtype)
            inputs = case.inputs(module, dtype=dtype, device=device)
            try:
                outputs = case.run(module, inputs)
            except RuntimeError as error:
                if dtype == torch.bfloat16 and "not implemented for" in str(error):
                    continue
                raise
            for output in outputs:
                assert output.dtype == dtype, f"{dtype} became {output.dtype}"
                assert output.device.type == device, f"{device} became {output.device}"
                assert output.isfinite().all(), f"{dtype} gives numbers that are not finite"


def leaves_its_inputs_alone(case: Case) -> None:
    """Neither values nor `requires_grad` of what it is given change."""
    module = case.build()
    inputs = case.inputs(module)
    before = {name: value.clone() for name, value in inputs.items() if value is not None}
    case.run(module, inputs)
    for name, value in inputs.items():
        if value is not None:
            assert torch.equal(value, before[name]), f"{name} has changed"
            assert not value.requires_grad, f"{name} requires a gradient now"


def trains_every_parameter(case: Case) -> None:
    """Each parameter gets a gradient, and a block without parameters passes one on."""
    module = case.build()
    inputs = case.inputs(module)
    leaves = {name: value for name, value in inputs.items() if value is not None and value.numel()}
    loss = _loss(case.run(module, {**inputs, **{name: value.requires_grad_() for name, value in leaves.items()}}))
    if leaves or loss.requires_grad:  # a table of numbers has nothing to learn
        loss.backward()
    gradients = {name: parameter.grad for name, parameter in module.block.named_parameters() if parameter.requires_grad}
    idle = [name for name, gradient in gradients.items() if gradient is None]
    assert not idle, f"no gradient for {', '.join(idle)}"
    passed = [value.grad for value in leaves.values() if value.grad is not None]
    assert gradients or passed or not leaves, "no gradient passes"
    wild = [name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()]
    assert not wild, f"the gradient of {', '.join(wild)} is not finite"
    assert all(gradient.isfinite().all() for gradient in passed), "the gradient of an input is not finite"


def differentiates_twice(case: Case) -> None:
    """The gradient towards the inputs can be differentiated, as penalties do; against finite differences in float64."""
    module = case.build().double().eval()
    given = case.inputs(module, dtype=torch.float64)
    inputs = {name: value for name, value in given.items() if value is not None and value.numel()}
    parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}
    values = [*inputs.values(), *parameters.values()]

    def slopes(flat: Tensor) -> tuple[Tensor, ...]:
        parts = flat.split([value.numel() for value in values])
        shaped = [part.view_as(value) for part, value in zip(parts, values, strict=True)]
        call = {**given, **dict(zip(inputs, shaped, strict=False))}
        torch.manual_seed(2)
        state = dict(zip(parameters, shaped[len(inputs) :], strict=True))
        outputs = torch.func.functional_call(module, state, args=(), kwargs=call)
        found = torch.autograd.grad(_loss(outputs), shaped[: len(inputs)], create_graph=True, allow_unused=True)
        return tuple(slope for slope in found if slope is not None and slope.requires_grad)

    flat = torch.cat([value.flatten() for value in values]).requires_grad_()  # as one, the check costs a few calls only
    with second_order():
        if inputs and slopes(flat):
            assert torch.autograd.gradcheck(slopes, flat, fast_mode=True)


def trains_in_mixed_precision(case: Case) -> None:
    """Under autocast, where matrix products give bfloat16 and the rest float32, a step still works."""
    module = case.build()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = case.run(module, case.inputs(module))
        loss = _loss(tuple(output.float() for output in outputs))
    if loss.requires_grad:
        loss.backward()
    assert loss.isfinite(), "the outputs are not finite"
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients), "a gradient is not finite"


def restores_from_its_state(case: Case) -> None:
    """The state dict holds all that makes one instance differ from another."""
    first, second = case.build(seed=0).eval(), case.build(seed=1).eval()
    second.load_state_dict(first.state_dict())
    inputs = case.inputs(first)
    _same(case.run(first, inputs), case.run(second, inputs))


def copies(case: Case) -> None:
    """A deep copy computes the same with weights of its own."""
    module = case.build().eval()
    twin = copy.deepcopy(module)
    inputs = case.inputs(module)
    _same(case.run(module, inputs), case.run(twin, inputs))
    owned = {parameter.data_ptr() for parameter in module.parameters()}
    assert not any(parameter.data_ptr() in owned for parameter in twin.parameters())


def compiles_to_the_same_numbers(case: Case) -> None:
    """torch.compile takes a call as one graph, and its outputs and gradients are those of eager mode."""
    _compare_compiled(case, backend="eager")


def compiles_to_machine_code(case: Case) -> None:
    """The same through inductor."""
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        raise SkipTest("no C++ compiler here")
    _compare_compiled(case, backend="inductor", options={"fallback_random": True}, rtol=1e-3, atol=1e-4)


SPEC_CHECKS = (reads_back_what_it_writes, shows_as_the_code_that_makes_it)
CASE_CHECKS = (
    gives_the_promised_shapes,
    keeps_dtype_and_device,
    leaves_its_inputs_alone,
    trains_every_parameter,
    trains_in_mixed_precision,
    restores_from_its_state,
    copies,
)


def _compare_compiled(case: Case, *, rtol: float = 1e-4, atol: float = 1e-5, **how: Any) -> None:
    torch._dynamo.reset()
    eager, again, traced = case.build(), case.build(), case.build()
    inputs = case.inputs(eager)
    expected = _with_gradients(case, eager, eager, inputs)
    found = _with_gradients(case, traced, torch.compile(traced, fullgraph=True, **how), inputs)
    if how["backend"] == "eager" or not _is_random(case, again, inputs):  # compilers leave out draws that are not used
        torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def _is_random(case: Case, module: Called, inputs: Inputs) -> bool:
    first = case.run(module, inputs)
    torch.manual_seed(3)
    return not all(torch.equal(*pair) for pair in zip(first, module(**inputs), strict=True))


def _with_gradients(case: Case, module: Called, call: Any, inputs: Inputs) -> list[Tensor | None]:
    leaves = {name: None if value is None else value.clone().requires_grad_() for name, value in inputs.items()}
    outputs = case.run(call, leaves)
    if any(output.requires_grad for output in outputs):
        _loss(outputs).backward()
    of_inputs = [leaf.grad for leaf in leaves.values() if leaf is not None]
    gradients = [*(parameter.grad for parameter in module.parameters()), *of_inputs]
    return [*(output.detach() for output in outputs), *(each for each in gradients if each is not None)]


def _loss(outputs: tuple[Tensor, ...]) -> Tensor:
    """A scalar that every element of every output moves, each differently."""
    weights = [torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype) for output in outputs]
    return torch.stack([output.flatten() @ weight for output, weight in zip(outputs, weights, strict=True)]).sum()


def _same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def _agrees(found: tuple[int, ...], expected: tuple[Any, ...]) -> bool:
    if expected[-1:] == (...,):
        expected = (*expected[:-1], *found[len(expected) - 1 :])
    return len(found) == len(expected) and all(
        size in (None, given) for given, size in zip(found, expected, strict=True)
    )


def _names(value: Any) -> dict[str, Any]:
    """The names that the `repr` of a spec uses: those of its block's file, and of the specs inside it."""
    if isinstance(value, tuple):
        return {name: each for part in value for name, each in _names(part).items()}
    if not isinstance(value, BaseModel):
        return {}
    inside = {name: each for field in type(value).model_fields for name, each in _names(getattr(value, field)).items()}
    if not isinstance(value, Spec):
        return inside
    return vars(sys.modules[value.block.__module__]) | inside | {value.block.__name__: value.block}
