"""How the tensors of a published checkpoint become ours: a list of moves, applied all at once or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from registry import IncompatibleError, Problem


def as_it_is(tensor: Tensor) -> Tensor:
    return tensor


class WeightRule(NamedTuple):
    """One tensor of ours, made from one of theirs or from several; `make` is differentiable."""

    ours: str
    theirs: tuple[str, ...]
    make: Callable[..., Tensor] = as_it_is


def rule(ours: str, *theirs: str, make: Callable[..., Tensor] = as_it_is) -> WeightRule:
    """A move; without `theirs` the name is the same on both sides."""
    return WeightRule(ours, theirs or (ours,), make)


def translate(
    rules: Iterable[WeightRule],
    tensors: Mapping[str, Tensor],
    network: nn.Module,
    *,
    ignored: Callable[[str], bool] = lambda name: False,
    subject: str = "",
) -> dict[str, Tensor]:
    """Our state dict for `network` (on any device, meta too) from the tensors of a checkpoint.

    Args:
        moves: Which of our tensors comes from which of theirs.
        tensors: Theirs, by name.
        network: Ours, whose state dict says which names and shapes are wanted.
        ignored: Says of a name in the checkpoint that nothing here corresponds to it.
        subject: What an error calls the checkpoint.

    Raises:
        IncompatibleError: Names that are missing, unexpected or have another shape, all together.
    """
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found: dict[str, Tensor] = {}
    told: set[str] = set()
    used: set[str] = set()
    problems: list[Problem] = []
    for ours, theirs, make in rules:
        told.add(ours)
        used.update(theirs)
        if missing := [name for name in theirs if name not in tensors]:
            problems += [Problem((name,), f"is missing; {ours} is made of it") for name in missing]
            continue
        if ours not in wanted:
            problems.append(Problem((*theirs[:1],), f"would become {ours}, which the model does not have"))
            continue
        try:
            made = make(*(tensors[name] for name in theirs))
        except (RuntimeError, IndexError, ValueError) as error:  # of a shape that `make` is not written for
            shapes = ", ".join(str(list(tensors[name].shape)) for name in theirs)
            problems.append(Problem((*theirs[:1],), f"has shape {shapes}, of which {ours} cannot be made ({error})"))
            continue
        if tuple(made.shape) != wanted[ours]:
            fact = f"has shape {list(made.shape)}, {ours} wants {list(wanted[ours])}"
            problems.append(Problem((*theirs[:1],), fact))
        found[ours] = made
    problems += [Problem((name,), "has no counterpart in the checkpoint") for name in wanted if name not in told]
    unexpected = [name for name in tensors if name not in used and not ignored(name)]
    problems += [Problem((name,), "is not expected") for name in unexpected]
    if problems:
        raise IncompatibleError(problems, subject)
    return found
