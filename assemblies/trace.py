"""Traces a list of steps before any memory is allocated: each step is built and run on the meta device.

This yields every shape, every parameter count and all problems at once; no block declares its output shape by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from assemblies.calls_inside import ERRORS, ShapeChangedError, calls_inside, innermost_built, shape_of
from assemblies.limits import check_parameters, check_shapes
from blocks.common.noise import current_noise_mode, noise_mode
from blocks.families import Layer
from registry import (
    Block,
    IncompatibleError,
    Problem,
    Spec,
    SpecValidationError,
    build_at,
    collecting,
    second_order,
)
from registry.kernels import counting, wants_second_order
from registry.text import excerpt

Shape: TypeAlias = tuple[int, ...]


class Step(NamedTuple):
    """One step of a network: the path of its spec, its context, and what it outputs.

    `features`, `image` and `logits` are shapes without the batch axis after this step, None where there is none.
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
    """The steps of a network. Where there are problems, `steps` are those that could be traced."""

    steps: tuple[Step, ...]
    problems: tuple[Problem, ...]
    complete: bool = True  # whether the last step was reached

    @property
    def image(self) -> Shape | None:
        """Channels, height and width of the image after the last step."""
        return self.steps[-1].image if self.steps else None

    @property
    def parameters(self) -> int:
        return sum(step.parameters for step in self.steps)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one image, in matrix products, convolutions and attention."""
        return sum(step.multiply_adds for step in self.steps)


_recent: list[tuple[Sequence[Spec], tuple[Any, ...], Trace]] = []
MAX_RECENT = 32


def trace_once(specs: Sequence[Spec], context: tuple[Any, ...], trace: Callable[[], Trace]) -> Trace:
    """`trace()`, or its earlier result for equal specs in an equal context, as when a checked spec is built.

    Args:
        specs: The specs that are traced.
        context: Everything else that the result depends on.
        trace: Computes it; results with problems are not kept.
    """
    for known_specs, known_context, result in _recent:
        if known_context == context and known_specs == specs:
            return result
    result = trace()
    if not result.problems:
        _recent.append((specs, context, result))
        del _recent[:-MAX_RECENT]
    return result


class ForwardState:
    """The values that a list of steps passes on, in a trace and in `forward`: features, image, logits.

    A subclass implements `context`, the context of the next step's block, and `advance`, which runs that block. With
    `checkpoint` the backward pass recomputes the activations of each step from its inputs, with the same random
    numbers: Chen et al. 2016, https://arxiv.org/abs/1604.06174.
    """

    checkpoint: bool = False
    features: torch.Tensor | None = None
    image: torch.Tensor | None = None
    logits: torch.Tensor | None = None

    def context(self, spec: Spec) -> dict[str, Any]:
        raise NotImplementedError

    def advance(self, block: nn.Module) -> None:
        raise NotImplementedError

    def run(self, block: nn.Module, *inputs: torch.Tensor | None) -> Any:
        """The outputs of a step's block."""
        if not (self.checkpoint and torch.is_grad_enabled()):
            return block(*inputs)
        with_second_derivatives, noise = wants_second_order(), current_noise_mode()

        def call(*inputs: torch.Tensor | None) -> Any:  # the backward pass may be outside of them, or in another thread
            with second_order() if with_second_derivatives else nullcontext(), noise_mode(noise):
                return block(*inputs)

        return checkpoint(call, *inputs, use_reentrant=False)

    def feature_context(self) -> dict[str, Any]:
        """The part of the context that the features determine."""
        if self.features is None:
            return {}
        dim, resolution = self.features.shape[1], tuple(self.features.shape[2:])
        return {"dim": dim, "in_dim": dim, "resolution": resolution}


def trace_steps(name: str, specs: Sequence[Spec], state: ForwardState) -> Trace:
    """Build and run a list of steps on the meta device, collecting problems instead of stopping at the first.

    A problem inside a slot that preserves the shape of its features does not end the trace. After any other problem the
    shapes of the remaining steps are unknown, so they are not checked.

    Args:
        name: The option that holds the list; first part of every path.
        specs: The steps; a layer counts `repeat` times.
        state: The values before the first step, on the meta device.
    """
    steps: list[Step] = []
    sound: list[Step] = []  # those without problems
    complete, parameters = True, 0
    with torch.device("meta"), torch.no_grad(), counting(), collecting() as problems:
        for index, spec in enumerate(specs):
            path = (name, index)
            try:
                for repetition in range(spec.repeat if isinstance(spec, Layer.Spec) else 1):
                    known = len(problems)
                    context = _context(path, spec, state)
                    equal = _equal_layer(spec, context, [*steps[-1:], *sound] if repetition else sound)
                    if equal is None:
                        steps.append(trace_step(path, spec, context, state))
                    else:
                        steps.append(equal._replace(path=path))
                        state.features = torch.empty(1, *equal.features or ())
                    if equal is None and len(problems) == known:
                        sound.append(steps[-1])
                    parameters += steps[-1].parameters
                    check_parameters(path, parameters)
            except IncompatibleError as error:
                problems.extend(error.problems)
                complete = False
                if index + 1 < len(specs):
                    problems.append(Problem((name, index + 1), _unchecked(len(specs) - index - 2)))
                break
    return Trace(tuple(steps), tuple(dict.fromkeys(problems)), complete)  # a repeated step repeats its problems


def unused_steps(name: str, specs: Sequence[Spec], *consumers: type[Block], cure: str) -> tuple[Problem, ...]:
    """The problem of the steps after the last one that uses features, if there are any: nothing uses their outputs.

    Args:
        name: The option that holds the list.
        specs: The steps.
        consumers: The families whose steps use features.
        cure: The step that may be added.
    """
    used = max((index + 1 for index, spec in enumerate(specs) if issubclass(spec.block, consumers)), default=0)
    if used == len(specs):
        return ()
    steps = "this step" if used + 1 == len(specs) else f"these {len(specs) - used} steps"
    families = " or ".join(each.family_name for each in consumers)
    fact = f"no {families} follows, so that nothing uses the output; remove {steps}, or add {cure} at the end"
    return (Problem((name, used), fact),)


def trace_step(path: tuple[str | int, ...], spec: Spec, context: dict[str, Any], state: ForwardState) -> Step:
    """Build one step, run it, and record what it outputs; `state` advances.

    Raises:
        IncompatibleError: The block does not fit its context or fails to run.
    """
    block = build_on_meta(path, spec, context)
    _, multiply_adds = run_on_meta(path, block, lambda: state.advance(block))
    features = shape_of(path, state.features, required=isinstance(spec, Layer.Spec))
    image, logits = shape_of(path, state.image), shape_of(path, state.logits)
    check_shapes(path, features=features, image=image, logits=logits)
    return Step(
        path,
        spec,
        context,
        getattr(block, "num_styles", 0),
        getattr(block, "shares_next_style", False),
        features,
        image,
        logits,
        sum(parameter.numel() for parameter in block.parameters()),
        multiply_adds,
    )


def build_on_meta(path: tuple[str | int, ...], spec: Spec, context: dict[str, Any]) -> Any:
    """The block of `spec` on the meta device.

    Raises:
        IncompatibleError: It cannot be built; paths begin with `path`.
    """
    try:
        return build_at(path, spec, **context)
    except IncompatibleError:
        raise
    except SpecValidationError as error:  # the context is not valid
        raise IncompatibleError([problem.under(*path) for problem in error.problems]) from None
    except ERRORS as error:
        slot, failed = innermost_built(error)
        fact = f"{failed.block.__name__} cannot be built here: {_reason(error)}"
        raise IncompatibleError([Problem(slot, fact)]) from error


def run_on_meta(path: tuple[str | int, ...], block: nn.Module, run: Callable[[], Any]) -> tuple[Any, int]:
    """The output of `run`, which calls `block`, and its multiply-adds.

    Raises:
        IncompatibleError: `block` failed.
    """
    from torch.utils.flop_counter import FlopCounterMode  # here: it imports Triton, 75 MB, where that is installed

    block.requires_grad_(False)  # the counter's hooks fail at an output that is a parameter itself
    with FlopCounterMode(display=False) as counter, calls_inside(block) as calls:
        try:
            output = run()
        except ShapeChangedError as error:
            raise IncompatibleError([problem.under(*path) for problem in error.problems]) from None
        except ERRORS as error:
            slot, innermost = calls.innermost() or ((), block)
            fact = f"{type(innermost).__name__} cannot run here: {_reason(error)}"
            raise IncompatibleError([Problem((*path, *slot), fact)]) from error
    return output, counter.get_total_flops() // 2


def count_parameters(path: tuple[str | int, ...], spec: Spec, context: dict[str, Any]) -> int:
    """Parameters of a block that is no step; nothing is allocated.

    Raises:
        IncompatibleError: The block cannot be built, or has more than `MAX_PARAMETERS`.
    """
    with torch.device("meta"):
        block = build_on_meta(path, spec, context)
    parameters = sum(parameter.numel() for parameter in block.parameters())
    check_parameters(path, parameters)
    return parameters


def _context(path: tuple[str | int, ...], spec: Spec, state: ForwardState) -> dict[str, Any]:
    try:
        return state.context(spec)
    except IncompatibleError as error:
        raise error.under(*path) from None


def _equal_layer(spec: Spec, context: dict[str, Any], steps: Sequence[Step]) -> Step | None:
    """The step of an equal layer in an equal context, which has an equal output; None if there is none."""
    if not isinstance(spec, Layer.Spec):
        return None
    return next((step for step in steps if step.context == context and step.spec == spec), None)


def _reason(error: BaseException) -> str:
    return excerpt((str(error).strip().splitlines() or [type(error).__name__])[0], 300)


def _unchecked(after: int) -> str:
    if not after:
        return "not checked: fix the error above first"
    steps = "step" if after == 1 else f"{after} steps"
    return f"not checked, nor the {steps} after it: fix the error above first"
