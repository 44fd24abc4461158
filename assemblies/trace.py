"""Looking at a list of steps before any memory is spent: each is built and run on the meta device.

That yields every shape, every parameter count and all misfits at once; no block declares its output shape by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from blocks.families import Layer
from registry import IncompatibleError, KernelError, Problem, Spec, build_at, collecting
from registry.kernels import counting

Shape: TypeAlias = tuple[int, ...]


class Step(NamedTuple):
    """One step of an assembly as it will be: where its spec stands, what it is told, what comes out of it.

    `features`, `image` and `logits` are shapes without the batch axis, None where a step gives no such thing.
    """

    path: tuple[str | int, ...]
    spec: Spec
    context: dict[str, Any]
    num_styles: int
    shares_next_style: bool
    features: Shape | None
    image: Shape | None
    logits: Shape | None
    parameters: int
    multiply_adds: int


class Trace(NamedTuple):
    """What a look at an assembly found. With problems, `steps` are those that could be looked at."""

    steps: tuple[Step, ...]
    problems: tuple[Problem, ...]
    complete: bool = True  # whether the look reached the last step

    @property
    def image(self) -> Shape | None:
        """Channels, height and width of the image after the last step."""
        return self.steps[-1].image if self.steps else None

    @property
    def parameters(self) -> int:
        return sum(step.parameters for step in self.steps)

    @property
    def multiply_adds(self) -> int:
        """Multiplications with addition for one image, in matrix products, convolutions and attention."""
        return sum(step.multiply_adds for step in self.steps)


class ForwardState:
    """The values that run through a list of steps, here and in `forward`: features, image, logits.

    Subclasses know the families of their list: `wiring` is what a place can tell its block, `advance` runs one.
    """

    features: torch.Tensor | None = None
    image: torch.Tensor | None = None
    logits: torch.Tensor | None = None

    def context(self, spec: Spec) -> dict[str, Any]:
        raise NotImplementedError

    def advance(self, block: nn.Module) -> None:
        raise NotImplementedError

    def feature_context(self) -> dict[str, Any]:
        """What the features tell the block that takes them in."""
        if self.features is None:
            return {}
        dim, resolution = self.features.shape[1], tuple(self.features.shape[2:])
        return {"dim": dim, "in_dim": dim, "resolution": resolution}


def trace_steps(name: str, specs: Sequence[Spec], state: ForwardState) -> Trace:
    """Build and run a list of steps on the meta device, writing down misfits instead of stopping at the first.

    A misfit inside a slot that keeps its map's shape is passed over, so that later steps are looked at too; after any
    other the rest cannot be known and is not looked at.
    """
    steps: list[Step] = []
    complete = True
    with torch.device("meta"), torch.no_grad(), counting(), collecting() as problems:
        for index, spec in enumerate(specs):
            path = (name, index)
            try:
                for again in range(spec.repeat if isinstance(spec, Layer.Spec) else 1):
                    same = again and steps[-1].context == state.context(spec)  # what is built alike comes out alike
                    steps.append(steps[-1] if same else trace_step(path, spec, state))
            except IncompatibleError as error:
                problems.extend(error.problems)
                complete = False
                if rest := len(specs) - index - 1:
                    others = f", nor the {rest - 1} after it" if rest > 1 else ""
                    problems.append(Problem((name, index + 1), f"not looked at{others}, until that is mended"))
                break
    return Trace(tuple(steps), tuple(dict.fromkeys(problems)), complete)  # a repeated step repeats its problems


def trace_step(path: tuple[str | int, ...], spec: Spec, state: ForwardState) -> Step:
    try:
        context = state.context(spec)
    except IncompatibleError as error:
        raise error.under(*path) from None
    block = build_at(path, spec, **context)
    with FlopCounterMode(display=False) as counter:
        _run(path, state.advance, block)
    return Step(
        path,
        spec,
        context,
        getattr(block, "num_styles", 0),
        getattr(block, "shares_next_style", False),
        _shape(state.features),
        _shape(state.image),
        _shape(state.logits),
        sum(parameter.numel() for parameter in block.parameters()),
        counter.get_total_flops() // 2,
    )


def _run(path: tuple[str | int, ...], advance: Callable[[nn.Module], None], block: nn.Module) -> None:
    try:
        advance(block)
    except (ValueError, RuntimeError, IndexError, TypeError, KernelError) as error:
        reason = str(error).strip().splitlines()[0]
        raise IncompatibleError([Problem(path, f"{type(block).__name__} does not run here: {reason}")]) from error


def _shape(value: torch.Tensor | None) -> Shape | None:
    return None if value is None else tuple(value.shape[1:])
