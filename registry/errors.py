"""Errors of specs: each problem has a path into the spec and a message with the fact, its numbers and the cure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """One problem of a spec: a path into the spec, and a message."""

    path: Path
    message: str

    @property
    def location(self) -> str:
        """The path as text, such as `synthesis.1.attention`."""
        return ".".join(str(part) for part in self.path) or "(top)"

    def under(self, *prefix: str | int) -> Problem:
        """The same problem with its path prefixed."""
        return Problem((*prefix, *self.path), self.message)


class SpecError(ValueError):
    """All problems of a spec.

    Args:
        problems: The problems, in the order of the spec.
        subject: What the message calls the spec: a file name, a class name.
    """

    verdict = "is wrong"

    def __init__(self, problems: Iterable[Problem], subject: str = "") -> None:
        self.problems = tuple(problems)
        self.subject = subject
        super().__init__(self.problems, subject)

    def __str__(self) -> str:
        count = len(self.problems)
        width = max((len(problem.location) for problem in self.problems), default=0)
        lines = [f"{self.subject or 'The spec'} {self.verdict} ({count} problem{'s' if count != 1 else ''})"]
        lines += [f"  {problem.location.ljust(width)}   {problem.message}" for problem in self.problems]
        return "\n".join(lines)

    def under(self, *prefix: str | int) -> SpecError:
        """The same error with all paths prefixed."""
        return type(self)([problem.under(*prefix) for problem in self.problems], self.subject)

    def about(self, subject: str) -> SpecError:
        """The same error with another subject."""
        return type(self)(self.problems, subject)


class SpecValidationError(SpecError):
    """A spec that is not valid by itself: unknown names, wrong types, values out of range."""

    verdict = "is not valid"


class IncompatibleError(SpecError):
    """Blocks whose specs are valid but which cannot be combined, or not with this image size."""

    verdict = "does not fit together"


def incompatible(parameter: str | int | Path, message: str) -> IncompatibleError:
    """The error that a block raises in `__init__` when `parameter` does not fit its context.

    Args:
        parameter: The block's option, or a path into it such as `("dilations", 1)`.
        message: The fact with its numbers, and the cure.
    """
    path = parameter if isinstance(parameter, tuple) else (parameter,)
    return IncompatibleError([Problem(path, message)])


def nearest(name: str, valid: Sequence[str]) -> str:
    """The hint of an error message about an unknown name: similar valid names, or all of them."""
    if not valid:
        return "there are none"
    *others, last = [repr(each) for each in difflib.get_close_matches(name, valid, n=3, cutoff=0.5)] or [""]
    if not last:
        return f"valid: {', '.join(sorted(valid))}"
    return f"did you mean {', '.join(others)} or {last}?" if others else f"did you mean {last}?"
