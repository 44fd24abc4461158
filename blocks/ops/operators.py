"""Operators of our own, which torch.compile, torch.export and opcheck take as they take PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

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
