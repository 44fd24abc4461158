"""Harnesses: how the blocks of a family are called in a test. This file knows no family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from registry.spec import Block

if TYPE_CHECKING:
    from registry.testing.cases import Case

ContextValues = Mapping[str, Any]
Inputs = dict[str, Tensor | None]
Shape = tuple[Any, ...]


def _call(block: nn.Module, **inputs: Tensor | None) -> Any:
    return block(*inputs.values())


def _nothing(block: nn.Module) -> None:
    """The default of `reset_buffers`: nothing."""


@dataclass(frozen=True)
class Harness:
    """How to try the blocks of one family.

    Args:
        inputs: Returns the input tensors by name, from the block and the context.
        shapes: Returns the expected shape of each output, from the block, the context and the inputs. None stands for
            any size, an Ellipsis at the end for any further axes.
        contexts: Contexts by name. A block must accept the first and may refuse the others. A value that is a function
            of the context is called when a block is built. `inputs` and `shapes` may use entries of their own.
        features: Axis of the features of each input whose shape a block has to check.
        needed: Inputs that a block must not be called without, if it uses them.
        call: Calls the block, where that is more than passing the inputs in order.
        checks: Checks of this family, beside those of every block.
        reset_buffers: Computes the buffers anew that are not in a state dict, for blocks built on the meta device.
        batched: Whether the first axis of each input and output is the batch.
        traceable: Whether torch.compile and torch.export must capture a call as one graph.
        smooth: Whether a call must have second derivatives.
        computes: Whether a call maps tensors to tensors; if not, only the spec and `checks` are tried.
    """

    inputs: Callable[[Any, ContextValues], Inputs]
    shapes: Callable[[Any, ContextValues, Inputs], tuple[Shape, ...]]
    contexts: Mapping[str, ContextValues]
    features: Mapping[str, int] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    call: Callable[..., Any] = _call
    checks: tuple[Callable[[Case], None], ...] = ()
    reset_buffers: Callable[[nn.Module], None] = _nothing
    batched: bool = True
    traceable: bool = True
    smooth: bool = True
    computes: bool = True


def harness_of(block: type[Block]) -> Harness:
    """The harness of a block's family, from the module `testing` of the package that declares the family.

    Raises:
        LookupError: That package has no such module, or the module no harness for this family.
    """
    module = block.family.__module__.partition(".")[0] + ".testing"
    try:
        harnesses = getattr(import_module(module), "HARNESSES", {})
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        harnesses = {}
    if block.family_name not in harnesses:
        raise LookupError(
            f"family {block.family_name} has no harness: add it to HARNESSES in {module}, "
            f"or pass one, checks({block.__name__}, harness=...)"
        )
    harness: Harness = harnesses[block.family_name]
    return harness
