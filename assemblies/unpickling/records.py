"""What unpickling yields in place of objects that it does not make: names, and records of the objects' state."""

from __future__ import annotations

from typing import Any

from assemblies.model_file import CheckpointError


class RefusedError(CheckpointError):
    """A file would run code."""


class UnreadableError(CheckpointError):
    """A file is truncated, damaged or of an unknown format."""


class Global:
    """The name of a function or class that a pickle mentions; nothing is imported.

    Args:
        name: The name with its module, such as torch.FloatStorage.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Record:
    """An object of an unknown class, as data.

    Args:
        name: The class with its module.
        args: The arguments that it was made with.
    """

    __slots__ = ("args", "elements", "entries", "name", "state")

    def __init__(self, name: str, args: tuple[Any, ...] = ()) -> None:
        self.name, self.args = name, args
        self.state: Any = None
        self.entries: dict[Any, Any] = {}  # of a subclass of dict
        self.elements: list[Any] = []  # of a subclass of list or set

    def __repr__(self) -> str:
        return f"<object of {self.name}>"


def fields(value: Any) -> dict[str, Any]:
    """The entries of a dictionary, or of an object that is a dictionary or has one as its state; else nothing."""
    if isinstance(value, Record):
        state = value.state
        if isinstance(state, tuple) and state:  # state and slots, of classes that have slots
            state = state[0]
        entries = value.entries or (state if isinstance(state, dict) else {})
        return {str(name): entry for name, entry in entries.items()}
    return value if isinstance(value, dict) else {}


def describe(value: Any) -> str:
    """An object in an error; never its whole `repr`, which may be endless."""
    if isinstance(value, Global | Record):
        return value.name
    return repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"
