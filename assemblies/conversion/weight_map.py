"""Translates the tensors of a checkpoint by a list of weight rules, completely or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from registry import IncompatibleError, Problem
from registry.text import excerpt


def unchanged(tensor: Tensor) -> Tensor:
    return tensor


class WeightRule(NamedTuple):
    """How one tensor of our network is computed from tensors of the checkpoint.

    Args:
        target: Name of the tensor in our state dict.
        sources: Names of the checkpoint's tensors.
        convert: Computes the target from the sources; differentiable.
    """

    target: str
    sources: tuple[str, ...]
    convert: Callable[..., Tensor] = unchanged


def rule(target: str, *sources: str, convert: Callable[..., Tensor] = unchanged) -> WeightRule:
    """A weight rule; without `sources` the name is the same on both sides."""
    return WeightRule(target, sources or (target,), convert)


def translate(
    rules: Iterable[WeightRule],
    tensors: Mapping[str, Tensor],
    network: nn.Module,
    *,
    ignored: Callable[[str], bool] = lambda name: False,
    subject: str = "",
) -> dict[str, Tensor]:
    """The state dict of `network` (on any device, also meta) from the tensors of a checkpoint.

    Args:
        rules: The weight rules.
        tensors: The checkpoint's tensors by name.
        network: The target; its state dict determines the names and shapes.
        ignored: Whether a tensor of the checkpoint has no counterpart here.
        subject: Name of the checkpoint in errors.

    Raises:
        IncompatibleError: Lists all missing and unexpected names and all wrong shapes.
    """
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    state: dict[str, Tensor] = {}
    targets: set[str] = set()
    used: set[str] = set()
    problems: list[Problem] = []
    for target, sources, convert in rules:
        targets.add(target)
        used.update(sources)
        if missing := [name for name in sources if name not in tensors]:
            problems += [Problem((name,), f"is missing; {target} needs it") for name in missing]
            continue
        if target not in expected:
            problems.append(Problem(sources[:1] or (target,), f"would become {target}, which the network lacks"))
            continue
        try:
            converted = convert(*(tensors[name] for name in sources))
        except (RuntimeError, IndexError, ValueError) as error:  # of a shape that `convert` does not support
            shapes = ", ".join(str(list(tensors[name].shape)) for name in sources)
            fact = f"has shape {shapes}; {target} cannot be computed from it ({excerpt(error)})"
            problems.append(Problem(sources[:1] or (target,), fact))
            continue
        if tuple(converted.shape) != expected[target]:
            fact = f"has shape {list(converted.shape)}; {target} has {list(expected[target])}"
            problems.append(Problem(sources[:1] or (target,), fact))
        state[target] = converted
    problems += [Problem((name,), "has no counterpart in the checkpoint") for name in expected if name not in targets]
    unexpected = [name for name in tensors if name not in used and not ignored(name)]
    problems += [Problem((excerpt(name),), "is not expected") for name in unexpected]
    if problems:
        raise IncompatibleError(problems, subject)
    return state
