"""Errors of specs: each problem has a path into the spec and a message with the fact, its numbers and the cure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from registry.text import excerpt

Path = tuple[str | int, ...]
MAX_SHOWN = 20  # problems in the text of an error
MAX_LISTED = 60  # valid names in a hint
MAX_NAME = 100  # characters of a wrong name that are compared with valid ones


class Problem(NamedTuple):
    """One problem of a spec: a path into the spec, and a message."""

    path: Path
    message: str

    @property
    def location(self) -> str:
        """The path as text, such as `synthesis.1.attention`."""
        return ".".join(excerpt(part, 60) for part in self.path) or "(top)"

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
        count, shown = len(self.problems), self.problems[:MAX_SHOWN]
        width = max((len(problem.location) for problem in shown), default=0)
        lines = [f"{self.subject or 'The spec'} {self.verdict} ({count} problem{'s' if count != 1 else ''})"]
        lines += [f"  {problem.location.ljust(width)}   {problem.message}" for problem in shown]
        if (more := count - len(shown)) > 0:
            lines.append(f"  and {more:,} more problem{'s' if more != 1 else ''}; mend these first")
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
    """The hint of an error message about an unknown name: similar valid names, or all of them up to `MAX_LISTED`."""
    if not valid:
        return "there are none"
    similar = difflib.get_close_matches(name[:MAX_NAME], valid, n=3, cutoff=0.5)
    if not similar:
        more = f" and {len(valid) - MAX_LISTED} more" if len(valid) > MAX_LISTED else ""
        return f"valid: {', '.join(sorted(valid)[:MAX_LISTED])}{more}"
    *others, last = map(repr, similar)
    return f"did you mean {', '.join(others)} or {last}?" if others else f"did you mean {last}?"
