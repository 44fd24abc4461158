"""Checks of a call: shapes, dtypes, devices, inputs left as they are, an empty batch."""

from __future__ import annotations

from typing import Any

import torch

from registry.testing.cases import Case

DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def gives_the_promised_shapes(case: Case) -> None:
    """Outputs have the shapes of the family's contract, and the same shapes on the meta device."""
    module = case.build()
    assert module.block.spec == case.spec
    inputs = case.inputs(module)
    shapes = [tuple(each.shape) for each in case.run(module, inputs)]
    expected = case.harness.shapes(module.block, case.values(), inputs)
    agrees = [_agrees(*pair) for pair in zip(shapes, expected, strict=True)]
    assert all(agrees), f"the shapes are {shapes}, the family promises {expected}"
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


def _agrees(shape: tuple[int, ...], expected: tuple[Any, ...]) -> bool:
    if expected[-1:] == (...,):
        expected = (*expected[:-1], *shape[len(expected) - 1 :])
    return len(shape) == len(expected) and all(
        promised in (None, size) for size, promised in zip(shape, expected, strict=True)
    )
