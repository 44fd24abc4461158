"""Adds elements and state to the containers and arrays of a pickle."""

from __future__ import annotations

from typing import Any

import numpy as np

from assemblies.unpickling.limits import as_key
from assemblies.unpickling.records import Record


def pairs(values: list[Any]) -> dict[Any, Any]:
    return dict(zip(map(as_key, values[::2]), values[1::2], strict=True))


def update(target: Any, entries: dict[Any, Any]) -> None:
    if not isinstance(target, Record | dict):
        raise ValueError(f"a {type(target).__name__} takes no entries")
    (target.entries if isinstance(target, Record) else target).update(entries)


def extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, Record):
        target.elements.extend(values)
    elif isinstance(target, set):
        target.update(map(as_key, values))
    elif isinstance(target, list):
        target.extend(values)
    else:
        raise ValueError(f"a {type(target).__name__} takes no elements")


def set_array(array: np.ndarray[Any, Any], state: Any) -> None:
    _, shape, dtype, _, content = state
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biufc" or not isinstance(content, bytes | str):
        raise ValueError("an array of other things than numbers")
    raw = content.encode("latin-1") if isinstance(content, str) else content
    array.__setstate__((1, tuple(int(size) for size in shape), dtype, bool(state[3]), raw))  # type: ignore[arg-type]


def set_byte_order(dtype: np.dtype[Any], state: Any) -> None:
    if state[1] not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
        raise ValueError("a structured array")
    dtype.__setstate__((3, state[1], None, None, None, -1, -1, 0))  # type: ignore[attr-defined]
