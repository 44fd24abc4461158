"""Operators of our own, which torch.compile, torch.export and opcheck take as they take PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

new_library: Callable[..., Any] = torch.library.Library
LIBRARY = new_library("ganblocks", "FRAGMENT")


def operator(
    name: str,
    schema: str,
    run: Callable[..., Any],
    *,
    fake: Callable[..., Any],
    device: str | None = None,
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
) -> Callable[..., Any]:
    """The operator `ganblocks::name`, defined as `torch.library.custom_op` defines one.

    A call of this one does not import torch._dynamo, which takes a second and 75 MB.

    Args:
        name: Its name.
        schema: Its arguments and results; it mutates and returns none of its arguments.
        run: Computes the results.
        fake: Returns results of the right shapes, dtypes and devices, for tracing.
        device: Device type of the tensors, such as CPU; None for all.
        backward: The derivative, as of `torch.library.register_autograd`; None if there is none.
        setup_context: Saves what `backward` needs.
    """

    def refuse(*_: Any) -> Any:
        raise RuntimeError(f"the operator ganblocks::{name} has no derivative")

    LIBRARY.define(name + schema, tags=torch.Tag.pt2_compliant_tag)
    LIBRARY.impl(name, run, device or "CompositeExplicitAutograd")
    torch.library.register_fake(f"ganblocks::{name}", fake, lib=LIBRARY)
    torch.library.register_autograd(f"ganblocks::{name}", backward or refuse, setup_context=setup_context, lib=LIBRARY)
    defined: Callable[..., Any] = getattr(torch.ops.ganblocks, name).default
    return defined


def differentiable_operator(
    name: str,
    arguments: str,
    run: Callable[..., Any],
    gradients: Callable[..., Any],
    *,
    takes_output: bool = False,
    device: str | None = None,
) -> Callable[..., Any]:
    """The operator `ganblocks::name` with one derivative, which the operator `ganblocks::name_backward` computes.

    Args:
        name: Its name.
        arguments: Its arguments, tensors first.
        run: Computes its result, of the shape and dtype of the first argument.
        gradients: Computes the gradients of the tensors from that of the result and the arguments. For a tensor that is
            None it returns a scalar, which is ignored.
        takes_output: Whether `gradients` also takes the result, between its gradient and the arguments.
        device: As in `operator`.
    """
    num_tensors = arguments.count("Tensor")

    def fake(x: Tensor, *_: Any) -> Tensor:
        return x.new_empty(x.shape)

    def fake_gradients(grad: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
        tensors = inputs[takes_output:][:num_tensors]
        return tuple(grad.new_empty(()) if x is None else x.new_empty(x.shape) for x in tensors)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*(output,) * takes_output, *inputs[:num_tensors])
        ctx.others = inputs[num_tensors:]

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # read once: under gradient checkpointing a second read raises
        computed = zip(derivative(grad, *saved, *ctx.others), saved[takes_output:], strict=True)
        return *(None if x is None else dx for dx, x in computed), *(None for _ in ctx.others)

    inputs = f"Tensor grad, {'Tensor output, ' if takes_output else ''}{arguments}"
    schema = f"({inputs}) -> ({', '.join(['Tensor'] * num_tensors)})"
    derivative = operator(f"{name}_backward", schema, gradients, fake=fake_gradients, device=device)
    options: dict[str, Any] = {"fake": fake, "device": device, "backward": backward, "setup_context": setup_context}
    return operator(name, f"({arguments}) -> Tensor", run, **options)
