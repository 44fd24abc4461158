"""Limits of specs: how large and how deep their data may be, and how large numbers in it.

They bound the time and memory of everything that reads a spec, whoever wrote it. Presets use a fifth of them at most.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from registry.errors import Problem
from registry.text import excerpt

MAX_DEPTH = 40  # mappings and lists inside each other
MAX_VALUES = 20_000  # with keys, mappings and lists; an alias of YAML counts as all that it stands for
MAX_TEXT = 10_000  # characters
MAX_INTEGER = 2**31 - 1
NOT_TEXT = re.compile(r"[\0\ud800-\udfff]")
TOO_MANY = f"has more than {MAX_VALUES:,} values and keys; make it shorter, for example by `repeat`"


class Refused(NamedTuple):
    """Stands, in data that a reader returns, for a value that it refuses."""

    reason: str


class AtMost:
    """Annotates an integer option with an upper limit and the reason for it.

    Args:
        limit: The largest value.
        reason: Why, as the end of the error message.
    """

    def __init__(self, limit: int, reason: str) -> None:
        self.limit, self.reason = limit, reason

    def __repr__(self) -> str:
        return f"AtMost({self.limit})"

    def check(self, value: int) -> int:
        if value > self.limit:
            raise ValueError(f"should be at most {self.limit:,}, not {value:,}: {self.reason}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {"maximum": self.limit}


def data_problems(data: Any, max_integer: int = MAX_INTEGER) -> list[Problem]:
    """What a spec may not contain, whatever its kind: too much, too deep, cycles, keys that are not text, NaN.

    Args:
        data: Mappings, lists, specs and scalars.
        max_integer: The largest magnitude of an integer.
    """
    return list(dict.fromkeys(_Walk(max_integer).problems((), data)))


class _Walk:
    def __init__(self, max_integer: int) -> None:
        self.count = 0
        self.max_integer = max_integer
        self.open: set[int] = set()  # ids of the mappings and lists around the current value

    def problems(self, path: tuple[str | int, ...], value: Any) -> Iterator[Problem]:
        self.count += 1
        if (fact := _refusal(value, self.max_integer)) is not None:
            yield Problem(path, fact)
        elif not isinstance(value, Mapping | BaseModel | list | tuple):
            return
        elif id(value) in self.open:
            yield Problem(path, "contains itself; write its parts out")
        elif len(path) >= MAX_DEPTH:
            yield Problem(path, f"is nested more than {MAX_DEPTH} levels deep; use fewer levels")
        else:
            self.open.add(id(value))
            yield from self.problems_inside(path, value)
            self.open.discard(id(value))

    def problems_inside(self, path: tuple[str | int, ...], value: Any) -> Iterator[Problem]:
        listed = isinstance(value, list | tuple)
        for key, part in enumerate(value) if listed else dict(value).items():
            self.count += not listed
            if self.count >= MAX_VALUES:
                yield Problem((), TOO_MANY)
                return
            if not listed and (fact := _key_refusal(key, self.max_integer)) is not None:
                name = "a key" if isinstance(key, Refused) else f"the key {excerpt(_shown(key))}"
                yield Problem(path, f"{name} {fact}; a key is a text, in quotes where it looks like a number")
            else:
                yield from self.problems((*path, key), part)


def _refusal(value: Any, max_integer: int) -> str | None:
    """Why this value is refused in every option; None if it is not."""
    if isinstance(value, Refused):
        return value.reason
    if isinstance(value, float) and not math.isfinite(value):
        return f"should be a finite number, not {value}, which JSON cannot express"
    if isinstance(value, int) and abs(value) > max_integer:
        number = f"{value:,}" if value.bit_length() < 64 else f"an integer of {value.bit_length()} bits"
        bits = max_integer.bit_length()
        why = "sizes and counts have 32 bits" if max_integer == MAX_INTEGER else "a larger one cannot be read"
        return f"should be between -(2^{bits} - 1) and 2^{bits} - 1, not {number}: {why}"
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            return f"is a text of {len(value):,} characters; at most {MAX_TEXT:,} are allowed"
        if NOT_TEXT.search(value):
            return "contains a NUL character or half of a surrogate pair, which is not text; remove it"
    return None


def _key_refusal(key: Any, max_integer: int) -> str | None:
    """Why this key is refused in every mapping; None if it is not."""
    return _refusal(key, max_integer) if isinstance(key, str | Refused) else "is not text"


def _shown(key: Any) -> str:
    return "beyond 2^31" if isinstance(key, int) and abs(key) > MAX_INTEGER else repr(key)
