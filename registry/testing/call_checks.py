"""Checks of a call: shapes, dtypes, devices, inputs left as they are, an empty batch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from registry.testing.cases import Case
from registry.testing.harness import Inputs

DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def gives_the_promised_shapes(case: Case) -> None:
    """Outputs have the shapes of the family's contract, and the same shapes on the meta device."""
    module = case.build()
    assert module.block.spec == case.spec
    inputs = case.inputs(module)
    shapes = [tuple(each.shape) for each in case.run(module, inputs)]
    expected = case.harness.shapes(module.block, case.values(), inputs)
    assert len(shapes) == len(expected), (
        f"returns {len(shapes)} tensors; {case.block.family_name} returns {len(expected)}"
    )
    advice = [advice for pair in zip(shapes, expected, strict=True) for advice in _shape_advice(case, inputs, *pair)]
    assert not advice, "; ".join(advice)
    with torch.device("meta"):
        planned = case.build()
    outputs = case.run(planned, case.inputs(module, device="meta"))
    assert [tuple(each.shape) for each in outputs] == shapes, "the meta device gives other shapes"
    assert all(each.is_meta for each in (*outputs, *planned.parameters(), *planned.buffers()))


def keeps_dtype_and_device(case: Case) -> None:
    """Outputs have the dtype and device of the inputs and are finite: float64, float32, bfloat16 where it exists.

    The devices are the case's device and CUDA.
    """
    devices = (torch.device(case.device).type, *(("cuda",) if torch.cuda.is_available() else ()))
    for device in dict.fromkeys(devices):
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
    """A call changes neither values nor `requires_grad` of its inputs."""
    module = case.build()
    inputs = case.inputs(module)
    before = {name: value.clone() for name, value in inputs.items() if value is not None}
    case.run(module, inputs)
    for name, value in inputs.items():
        if value is not None:
            assert torch.equal(value, before[name]), f"{name} has changed"
            assert not value.requires_grad, f"{name} requires a gradient now"


def takes_an_empty_batch(case: Case) -> None:
    """A batch of 0 gives outputs of batch 0, in training and eval mode, and leaves parameters and buffers finite."""
    module = case.build()
    inputs = case.inputs(module)
    shapes = [tuple(each.shape[1:]) for each in case.run(module, inputs)]
    empty = {name: None if value is None else value[:0].requires_grad_() for name, value in inputs.items()}
    for mode in (True, False):
        outputs = case.run(module.train(mode), empty)
        expected = [(0, *shape) for shape in shapes]
        assert [tuple(each.shape) for each in outputs] == expected, f"expected {expected}"
        loss = torch.stack([output.sum() for output in outputs]).sum()
        if loss.requires_grad:
            loss.backward()
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    tensors |= {f"{name}.grad": each.grad for name, each in module.named_parameters() if each.grad is not None}
    spoiled = [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    assert not spoiled, f"not finite after an empty batch: {', '.join(spoiled)}"


def refuses_inputs_that_do_not_fit(case: Case) -> None:
    """Inputs of another rank, width or batch size, or left out, raise a ValueError that names an input.

    The first input may also be taken, such as tokens by a norm or more channels by a resampling layer, if the outputs
    then have the promised shapes. Inputs without elements, such as the styles of a block that uses none, stay.
    """
    with torch.device("meta"):
        module = case.build()
    inputs = case.inputs(module, device="meta")
    present = {name: value for name, value in inputs.items() if value is not None and value.numel()}
    for name, value in present.items():
        first, axis = name == next(iter(present)), case.harness.features.get(name)
        needed = name in case.harness.needed
        for change, wrong in () if axis is None else _misfits(value, axis, first=first, needed=needed):
            described = "None" if wrong is None else list(wrong.shape)
            changed = inputs | {name: wrong}
            try:
                outputs = case.run(module, changed)
            except ValueError as error:
                if re.search(rf"\b({'|'.join(present)})\b", str(error)):
                    continue
                fact = f"{name} with {change}, {described}, raises {str(error)!r}"
                raise AssertionError(f"{fact}; name {name} in the message") from error
            except Exception as error:
                first_line = (str(error).splitlines() or [""])[0]
                raise AssertionError(
                    f"{name} with {change}, {described} for {list(value.shape)}, raises {type(error).__name__}: "
                    f"{first_line}; check its shape first and raise ValueError"
                ) from error
            shapes = [tuple(each.shape) for each in outputs]
            taken = first and all(
                _agrees(*pair)
                for pair in zip(shapes, case.harness.shapes(module.block, case.values(), changed), strict=True)
            )
            assert taken, f"{name} with {change}, {described} for {list(value.shape)}, gives {shapes}; raise ValueError"


def _misfits(value: Tensor, axis: int, *, first: bool, needed: bool) -> Iterator[tuple[str, Tensor | None]]:
    """Inputs that do not fit, each with what is wrong."""
    yield "an axis too few", value[0]
    yield "an axis too many", value[None]
    yield "other features", torch.cat([value, value.narrow(axis, 0, 1)], dim=axis)
    if not first:
        yield "another batch size", value[:1]
    if needed:
        yield "no value", None


AXES = {4: ("images", "rows", "columns", "channels"), 2: ("vectors", "features")}


def _shape_advice(case: Case, inputs: Inputs, shape: tuple[int, ...], promised: tuple[Any, ...]) -> Iterator[str]:
    """What is wrong with the shape of an output, in words: which axis has how many elements instead of how many."""
    if _agrees(shape, promised):
        return
    family, place = case.block.family_name, ""
    if (resolution := case.values().get("resolution")) is not None:
        place = f", for a map of {resolution[0]}x{resolution[1]} pixels"
    wanted = ["any" if size is None else size for size in promised]
    if len(shape) != len(promised) or promised[-1:] == (...,):
        yield f"returns {list(shape)}; {family} must return {wanted}{place}"
        return
    given = next((tuple(value.shape) for value in inputs.values() if value is not None), ())
    names = list(AXES.get(len(shape), ()))
    if names and case.harness.features.get(next(iter(inputs), ""), -1) == 1 and len(shape) == 4:
        names.insert(1, names.pop())  # [B,C,H,W]
    for axis, (size, promise) in enumerate(zip(shape, promised, strict=True)):
        if promise not in (None, size):
            name = names[axis] if names else f"elements on axis {axis}"
            verb = f"keep the {promise} it was given" if given == promised else f"return {promise}"
            yield f"returns {size} {name}; {family} must {verb}{place}"


def _agrees(shape: tuple[int, ...], expected: tuple[Any, ...]) -> bool:
    if expected[-1:] == (...,):
        expected = (*expected[:-1], *shape[len(expected) - 1 :])
    return len(shape) == len(expected) and all(
        promised in (None, size) for size, promised in zip(shape, expected, strict=True)
    )
