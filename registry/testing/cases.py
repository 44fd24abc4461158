"""Cases: a block with some options in some place, and what it takes to build and to run it there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from registry.errors import SpecError
from registry.spec import Block, Spec
from registry.testing.harness import HARNESSES, STANDARD, ContextValues, Harness, Inputs, made


class Called(nn.Module):
    """A block with its way of being called: keyword tensors in, a tuple of tensors out."""

    def __init__(self, block: nn.Module, harness: Harness) -> None:
        super().__init__()
        self.block = block
        self.call = harness.call

    def forward(self, **inputs: Tensor | None) -> tuple[Tensor, ...]:
        found = self.call(self.block, **inputs)
        return tuple(each for each in found if each is not None) if isinstance(found, tuple) else (found,)


@dataclass(frozen=True)
class Case:
    """A block with some options in some place.

    Args:
        block: The class.
        options: What is chosen of its spec.
        place: Its wiring, and what the driver has to know beside it.
        name: Of the options and the place, for the test's name.
        driver: How the block's family is tried.
    """

    block: type[Block]
    options: dict[str, Any]
    context: ContextValues
    name: str
    harness: Harness

    def __str__(self) -> str:
        return f"{self.block.family_name}/{self.block.kind}/{self.name}"

    @property
    def spec(self) -> Spec:
        return self.block.Spec(**self.options)

    def build(self, *, seed: int = 0) -> Called:
        torch.manual_seed(seed)
        return Called(self.spec.build(**{name: made(value) for name, value in self.context.items()}), self.harness)

    def inputs(self, module: Called, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Inputs:
        torch.manual_seed(1)
        found = self.harness.inputs(module.block, self.context)
        return {name: None if value is None else value.to(device, dtype) for name, value in found.items()}

    def run(self, module: nn.Module, inputs: Inputs) -> tuple[Tensor, ...]:
        """A call in which chance falls the same way each time."""
        torch.manual_seed(2)
        outputs: tuple[Tensor, ...] = module(**inputs)
        return outputs

    def fits(self) -> bool:
        """Whether the block takes this place, tried without memory."""
        try:
            with torch.device("meta"):
                self.build()
        except SpecError:
            return False
        return True


def cases(block: type[Block], harness: Harness | None = None) -> Iterator[Case]:
    """The cases of a block: its defaults and its examples, each in every place that its family knows.

    Where a class declares `examples`, its defaults are tried only where they fit; a block may refuse every place but
    the first of its family. A class that says `wants_published_weights` is tried with its examples only.

    Raises:
        LookupError: Nobody has said how blocks of this family are tried.
    """
    harness = harness or HARNESSES.get(block.family_name)
    if harness is None:
        raise LookupError(f"family {block.family_name} has no driver: pass one, checks({block.__name__}, driver=...)")
    declared = getattr(block, "examples", ())
    examples: list[tuple[str, dict[str, Any]]] = [("defaults", {})]
    examples += [(f"example{number}", dict(example)) for number, example in enumerate(declared)]
    seen: list[tuple[dict[str, Any], ContextValues]] = []
    if getattr(block, "wants_published_weights", False):  # by default; a test has none
        del examples[0]
    for name, example in examples:
        options = dict(example.get("spec", {}))
        for number, (label, context) in enumerate(harness.contexts.items()):
            context = {**STANDARD, **context, **example.get("context", {})}
            context.setdefault("in_dim", context["dim"])  # for blocks of which `dim` is an option: what goes out
            case = Case(block, options, context, f"{name}/{label}", harness)
            optional = number > 0 or (name == "defaults" and declared)
            if (options, context) in seen or (optional and not case.fits()):
                continue
            seen.append((options, context))
            yield case
