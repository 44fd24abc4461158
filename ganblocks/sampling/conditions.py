"""Conditions by name: classes and captions as the vectors c that a generator takes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from assemblies import Generator
from assemblies.condition import condition_input
from ganblocks.errors import DataError
from registry.errors import nearest


class NamedConditions(NamedTuple):
    """Condition vectors with their names; an unconditional generator has one that is None, without a name."""

    names: list[str]
    vectors: list[Float[Tensor, " d"] | None]

    def labels(self) -> list[str]:
        """The names that there are."""
        return [name for name in self.names if name]


def resolve_conditions(
    generator: Generator, classes: Sequence[int | str] = (), captions: Sequence[str] = ()
) -> NamedConditions:
    """The conditions of classes or captions. Without any there is one that is None: the class then depends on the seed.

    A caption that is longer than the text encoder reads is a warning.

    Raises:
        DataError: The generator does not have the class, takes no captions, or needs a caption.
    """
    takes = condition_input(generator.spec)
    if captions and classes:
        raise DataError("--class and --prompt exclude each other: a generator takes classes or captions")
    if captions and takes != "captions":
        raise DataError(
            f"--prompt {captions[0]!r}: this is not a text-conditional model; it takes {_classes(generator)}"
        )
    if takes == "captions":
        if not captions:
            raise DataError("this is a text-conditional model: pass --prompt, such as --prompt 'a red circle'")
        assert generator.condition is not None, "captions are read by a condition"
        for caption in captions:
            if unread := generator.condition.num_unread(caption):
                warnings.warn(
                    f"--prompt {caption!r}: the text encoder does not read its last {unread} tokens; shorten it",
                    stacklevel=2,
                )
        return NamedConditions(list(captions), list(generator.condition_of(captions)))
    if not classes:
        return NamedConditions([""], [None])
    numbers = [_number(generator, each) for each in classes]
    names = [generator.class_names[each] if generator.class_names else f"class {each}" for each in numbers]
    return NamedConditions(names, list(generator.condition_of(numbers)))


def conditions_for(generator: Generator, c: Tensor | None, seeds: Sequence[int]) -> Float[Tensor, "n d"] | None:
    """One condition per seed.

    Args:
        generator: The generator.
        c: A condition per seed [n, d], one for all [d], or None, for which a class-conditional generator takes class
            seed % classes.
        seeds: The seeds.

    Raises:
        ValueError: The generator takes no condition, needs a caption's, or one of another width.
    """
    count = len(seeds)
    if not generator.cond_dim:
        if c is not None:
            raise ValueError("the generator takes no condition (its cond_dim is 0)")
        return None
    if c is None and condition_input(generator.spec) == "captions":
        raise ValueError(
            "this is a text-conditional model: pass c, such as generator.condition_of(['a red circle'])[0]"
        )
    if c is None:
        return one_hot([seed % generator.cond_dim for seed in seeds], generator.cond_dim)
    if c.shape[-1] != generator.cond_dim or c.ndim > 2 or (c.ndim == 2 and len(c) != count):
        raise ValueError(
            f"c has shape {tuple(c.shape)}; it should be {(count, generator.cond_dim)} or {(generator.cond_dim,)}"
        )
    return c.expand(count, -1) if c.ndim == 1 else c


def one_hot(classes: Sequence[int] | Int64[Tensor, " n"], cond_dim: int) -> Float[Tensor, "n d"]:
    """Classes as one-hot condition vectors."""
    return F.one_hot(torch.as_tensor(classes), cond_dim).float()


def _number(generator: Generator, chosen: int | str) -> int:
    """The number of a class, given as it is or by its name."""
    names = generator.class_names
    if isinstance(chosen, str) and chosen in names:
        return names.index(chosen)
    if isinstance(chosen, int) and 0 <= chosen < generator.cond_dim:
        return chosen
    hint = f"; {nearest(chosen, names)}" if isinstance(chosen, str) and names else ""
    raise DataError(f"--class {chosen}: there is no such class; the model takes {_classes(generator)}{hint}")


def _classes(generator: Generator) -> str:
    return f"classes 0 to {generator.cond_dim - 1}" if generator.cond_dim else "no condition"
