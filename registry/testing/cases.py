"""Cases: a block with some options in one context, and how to build and to run it there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from registry.errors import SpecError
from registry.spec import Block, Spec
from registry.testing.harness import ContextValues, Harness, Inputs, harness_of


class Called(nn.Module):
    """A block as a module that takes tensors by keyword and returns a tuple of tensors."""

    def __init__(self, block: nn.Module, harness: Harness) -> None:
        super().__init__()
        self.block = block
        self.call = harness.call

    def forward(self, **inputs: Tensor | None) -> tuple[Tensor, ...]:
        outputs = self.call(self.block, **inputs)
        outputs = tuple(each for each in outputs if each is not None) if isinstance(outputs, tuple) else (outputs,)
        for output in outputs:
            assert isinstance(output, Tensor), f"returns {type(output).__name__}, not a tensor"
        return outputs


@dataclass(frozen=True)
class Case:
    """A block with some options in one context.

    Args:
        block: The class.
        options: Options that differ from the defaults of its spec.
        context: Its context, and further entries that the harness needs.
        name: Names the options and the context in the test's name.
        harness: How the block's family is called.
        device: Where blocks and inputs are moved after they are made.
    """

    block: type[Block]
    options: dict[str, Any]
    context: ContextValues
    name: str
    harness: Harness
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{self.block.family_name}/{self.block.kind}/{self.name}"

    @property
    def spec(self) -> Spec:
        return self.block.Spec(**self.options)

    def build(self, *, seed: int = 0) -> Called:
        torch.manual_seed(seed)
        module = Called(self.spec.build(**self.values()), self.harness)
        return module if torch.get_default_device().type == "meta" else module.to(self.device)

    def values(self) -> dict[str, Any]:
        """The context, with its functions called and its tensors on the default device."""
        values = {name: value(self.context) if callable(value) else value for name, value in self.context.items()}
        device = torch.get_default_device()
        return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in values.items()}

    def inputs(self, module: Called, *, dtype: torch.dtype = torch.float32, device: str | None = None) -> Inputs:
        """The inputs of a call, by default on the case's device."""
        torch.manual_seed(1)
        inputs = self.harness.inputs(module.block, self.values())
        return {
            name: None if value is None else value.to(device or self.device, dtype) for name, value in inputs.items()
        }

    def run(self, module: nn.Module, inputs: Inputs) -> tuple[Tensor, ...]:
        """Call the module with a fixed seed."""
        torch.manual_seed(2)
        outputs: tuple[Tensor, ...] = module(**inputs)
        return outputs

    def fits(self) -> bool:
        """Whether the block accepts this context; it is built on the meta device to find out."""
        try:
            with torch.device("meta"):
                self.build()
        except SpecError:
            return False
        return True


def cases(block: type[Block], harness: Harness | None = None) -> Iterator[Case]:
    """The cases of a block: its defaults and its examples, each in every context of its family's harness.

    A block must accept the first context and may refuse the others. Where a class declares `examples`, its defaults may
    be refused too. A class with `wants_published_weights` is tried with its examples only.

    Raises:
        LookupError: There is no harness for this family.
    """
    harness = harness or harness_of(block)
    declared = getattr(block, "examples", ())
    examples: list[tuple[str, dict[str, Any]]] = [("defaults", {})]
    examples += [(f"example{number}", dict(example)) for number, example in enumerate(declared)]
    if getattr(block, "wants_published_weights", False):  # the defaults would download them
        del examples[0]
    seen: list[tuple[dict[str, Any], ContextValues]] = []
    for name, example in examples:
        options = dict(example.get("spec", {}))
        for number, (label, values) in enumerate(harness.contexts.items()):
            context = {**values, **example.get("context", {})}
            case = Case(block, options, context, f"{name}/{label}", harness)
            optional = number > 0 or (name == "defaults" and declared)
            if (options, context) in seen or (optional and not case.fits()):
                continue
            seen.append((options, context))
            yield case
