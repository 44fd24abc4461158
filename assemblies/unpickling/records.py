"""What is left of a pickle's objects when nothing is imported: names, and records of what objects were made of."""

from __future__ import annotations

from typing import Any

from assemblies.model_file import CheckpointError


class RefusedError(CheckpointError):
    """A file that would have run code."""


class UnreadableError(CheckpointError):
    """A file that is cut short, damaged or of another format."""


class Global:
    """A name in a module that a pickle mentions. It is a name only: nothing is imported."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Record:
    """An object of a class that is not known here: what it was made of, as data.

    Args:
        name: The class, with its module.
        args: What it was made with.
    """

    __slots__ = ("args", "elements", "entries", "name", "state")

    def __init__(self, name: str, args: tuple[Any, ...] = ()) -> None:
        self.name, self.args = name, args
        self.state: Any = None
        self.entries: dict[Any, Any] = {}  # of a class that is a dictionary
        self.elements: list[Any] = []  # of a class that is a list or a set

    def __repr__(self) -> str:
        return f"<object of {self.name}>"


def fields(value: Any) -> dict[str, Any]:
    """The entries of a dictionary, or of an object that is one or keeps them as its state."""
    if isinstance(value, Record):
        state = value.state
        if isinstance(state, tuple) and state:  # state and slots, of classes that have slots
            state = state[0]
        return {str(name): each for name, each in (value.entries or (state if isinstance(state, dict) else {})).items()}
    return value if isinstance(value, dict) else {}
