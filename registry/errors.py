"""What goes wrong with a spec, said so that a reader can mend it: the place, the fact with numbers, the cure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """One thing that is wrong: where (a path into the spec) and what, with its cure."""

    path: Path
    message: str

    @property
    def place(self) -> str:
        return ".".join(str(part) for part in self.path) or "(top)"

    def under(self, *prefix: str | int) -> Problem:
        return Problem((*prefix, *self.path), self.message)


class SpecError(ValueError):
    """All problems of a spec, each with its path.

    Args:
        problems: What is wrong, in the order of the spec.
        subject: What the spec was called: a file name, a class name.
    """

    verdict = "is not right"

    def __init__(self, problems: Iterable[Problem], subject: str = "") -> None:
        self.problems = tuple(problems)
        self.subject = subject
        super().__init__(self.problems, subject)

    def __str__(self) -> str:
        count = len(self.problems)
        width = max((len(problem.place) for problem in self.problems), default=0)
        lines = [f"{self.subject or 'The spec'} {self.verdict} ({count} problem{'s' if count != 1 else ''})"]
        lines += [f"  {problem.place.ljust(width)}   {problem.message}" for problem in self.problems]
        return "\n".join(lines)

    def under(self, *prefix: str | int) -> SpecError:
        """The same problems, seen from further out."""
        return type(self)([problem.under(*prefix) for problem in self.problems], self.subject)

    def about(self, subject: str) -> SpecError:
        """The same problems, of a spec with a name."""
        return type(self)(self.problems, subject)


class SpecValidationError(SpecError):
    """A spec that is wrong in itself: unknown names, wrong types, values out of range."""

    verdict = "is not valid"


class IncompatibleError(SpecError):
    """Blocks that are right in themselves but do not fit their neighbours."""

    verdict = "does not fit together"


def incompatible(parameter: str | int | Path, message: str) -> IncompatibleError:
    """The error a block raises in `__init__` when `parameter` does not fit its wiring.

    Args:
        parameter: The block's option, or a path into it such as `("dilations", 1)`.
        message: The fact with its numbers, and the cure.
    """
    path = parameter if isinstance(parameter, tuple) else (parameter,)
    return IncompatibleError([Problem(path, message)])


def nearest(name: str, valid: Sequence[str]) -> str:
    """Half a sentence that points from a name nobody knows to the valid ones."""
    if not valid:
        return "there is none to choose from"
    close = difflib.get_close_matches(name, valid, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}" if close else f"valid: {', '.join(sorted(valid))}"
