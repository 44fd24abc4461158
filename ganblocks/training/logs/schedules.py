"""The schedules of a document, for the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from blocks.families import Schedule
from registry import Spec


def schedules_of(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Schedule]]:
    """The schedules in a document, with their paths in it, such as generator_optimizer.lr."""
    if isinstance(value, Spec) and issubclass(value.block, Schedule):
        yield ".".join(path), value.build()
    elif isinstance(value, BaseModel):
        for name, each in value:
            yield from schedules_of(each, (*path, name))
    elif isinstance(value, tuple):
        for index, each in enumerate(value):
            yield from schedules_of(each, (*path, str(index)))
