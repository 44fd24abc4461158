"""Checks of gradients: every parameter trains, second derivatives, mixed precision, gradient checkpointing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from registry.kernels import second_order
from registry.spec import Block
from registry.testing.cases import Called, Case
from registry.testing.harness import Inputs

SHIFT = 0.1  # standard deviation of the noise that is added to each parameter
ROUNDING = 1e-12  # a float64 gradient below this share of the largest one is rounding noise


def trains_every_parameter(case: Case) -> None:
    """Each parameter gets a finite gradient other than zero, up to rounding; without parameters, an input gets one.

    Noise is added to the parameters first: a gate that starts at zero stops the gradient of the parameters behind it.
    Exempt are the `dead_parameters` of blocks.
    """
    module = case.build().double()
    with torch.no_grad():
        for parameter in module.block.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=SHIFT)
    inputs = case.inputs(module, dtype=torch.float64)
    leaves = {name: value for name, value in inputs.items() if value is not None and value.numel()}
    outputs = case.run(module, {**inputs, **{name: value.requires_grad_() for name, value in leaves.items()}})
    loss = weighted_sum(outputs)
    if leaves or loss.requires_grad:  # neither: a fixed table of numbers
        loss.backward()
    gradients = {name: parameter.grad for name, parameter in module.block.named_parameters() if parameter.requires_grad}
    largest = max((gradient.abs().max().item() for gradient in gradients.values() if gradient is not None), default=0.0)
    dead = _dead_parameters(module.block)
    for name, gradient in gradients.items():
        assert gradient is not None, f"no gradient for {name}"
        assert gradient.isfinite().all(), f"the gradient of {name} is not finite"
        assert name in dead or gradient.abs().max() > ROUNDING * largest, f"the gradient of {name} is zero"
    passed = [value.grad for value in leaves.values() if value.grad is not None]
    assert gradients or not leaves or any(gradient.any() for gradient in passed), "no gradient passes"
    assert all(gradient.isfinite().all() for gradient in passed), "the gradient of an input is not finite"


def _dead_parameters(block: nn.Module) -> set[str]:
    prefixed = ((prefix, part) for prefix, part in block.named_modules() if isinstance(part, Block))
    return {f"{prefix}.{name}".lstrip(".") for prefix, part in prefixed for name in part.dead_parameters}


def differentiates_twice(case: Case) -> None:
    """The gradient of the inputs can be differentiated, as penalties do; against finite differences in float64."""
    module = case.build().double().eval()
    call = case.inputs(module, dtype=torch.float64)
    inputs = {name: value for name, value in call.items() if value is not None and value.numel()}
    parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}
    values = [*inputs.values(), *parameters.values()]
    if not inputs:
        return

    def slopes(flat: Tensor) -> tuple[Tensor, ...]:
        parts = flat.split([value.numel() for value in values])
        shaped = [part.view_as(value) for part, value in zip(parts, values, strict=True)]
        torch.manual_seed(2)
        state = dict(zip(parameters, shaped[len(inputs) :], strict=True))
        kwargs = {**call, **dict(zip(inputs, shaped, strict=False))}
        outputs = torch.func.functional_call(module, state, args=(), kwargs=kwargs)
        loss = weighted_sum(outputs)
        gradients = torch.autograd.grad(loss, shaped[: len(inputs)], create_graph=True, allow_unused=True)
        return tuple(gradient for gradient in gradients if gradient is not None and gradient.requires_grad)

    flat = torch.cat([value.flatten() for value in values]).requires_grad_()  # one tensor: gradcheck needs few calls
    with second_order():
        if slopes(flat):
            # sums of a GPU by atomic additions differ from call to call by their rounding
            same_each_time = torch.device(case.device).type == "cpu"
            assert torch.autograd.gradcheck(slopes, flat, fast_mode=True, nondet_tol=0.0 if same_each_time else 1e-9)


def trains_in_mixed_precision(case: Case) -> None:
    """Outputs and gradients are finite under autocast, where matrix products give bfloat16 and the rest float32."""
    module = case.build()
    with torch.autocast(torch.device(case.device).type, torch.bfloat16):
        outputs = case.run(module, case.inputs(module))
        loss = weighted_sum(tuple(output.float() for output in outputs))
    if loss.requires_grad:
        loss.backward()
    assert loss.isfinite(), "the outputs are not finite"
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients), "a gradient is not finite"


def trains_under_checkpointing(case: Case) -> None:
    """`torch.utils.checkpoint` gives the same outputs and gradients; it runs the block again in the backward pass."""
    plain, module = case.build(), case.build()
    inputs = case.inputs(plain)
    expected = outputs_and_gradients(case, plain, plain, inputs)

    def recomputed(**inputs: Tensor | None) -> Any:
        def run(*tensors: Tensor | None) -> Any:  # positional: checkpoint restores random states of their devices only
            return module(**dict(zip(inputs, tensors, strict=True)))

        return checkpoint(run, *inputs.values(), use_reentrant=False)

    torch.testing.assert_close(outputs_and_gradients(case, module, recomputed, inputs), expected)


def outputs_and_gradients(case: Case, module: Called, call: Any, inputs: Inputs) -> list[Tensor | None]:
    """The outputs of `call`, then the gradients of the module's parameters and of the inputs."""
    leaves = {name: None if value is None else value.clone().requires_grad_() for name, value in inputs.items()}
    outputs = case.run(call, leaves)
    if any(output.requires_grad for output in outputs):
        weighted_sum(outputs).backward()
    of_inputs = [leaf.grad for leaf in leaves.values() if leaf is not None]
    gradients = [*(parameter.grad for parameter in module.parameters()), *of_inputs]
    return [*(output.detach() for output in outputs), *(each for each in gradients if each is not None)]


def weighted_sum(outputs: tuple[Tensor, ...]) -> Tensor:
    """A scalar that depends on every element of every output, on each with another weight."""
    weights = [torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype, device=output.device) for output in outputs]
    return torch.stack([output.flatten() @ weight for output, weight in zip(outputs, weights, strict=True)]).sum()
