"""Limits on the cost of reading one file.

A pickle of a megabyte can otherwise build containers that take hours to compare or gigabytes to copy, or nest them so
deeply that Python's hash function overflows the stack.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from assemblies.unpickling.records import Global, Record

MAX_INSTRUCTIONS = 2_000_000
MAX_INTEGER_BITS = 256
MAX_NAME = 1000  # characters
MAX_KEY_PARTS = 16
COPY_FACTOR, COPY_SPARE = 8, 64 * 2**20  # copies: so many times the file, and so many bytes


class Limits:
    """Counts the instructions of a file's pickles and the bytes that their calls copy; ValueError for too many.

    Args:
        size: Bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self.instructions = MAX_INSTRUCTIONS
        self.bytes = COPY_FACTOR * size + COPY_SPARE

    def count_instruction(self) -> None:
        self.instructions -= 1
        if self.instructions < 0:
            raise ValueError(f"a pickle of more than {MAX_INSTRUCTIONS:,} instructions; a checkpoint has fewer")

    def count_copies(self, *values: Any) -> None:
        """Count the bytes of values that are about to be copied."""
        self.bytes -= sum(map(_num_bytes, values))
        if self.bytes < 0:
            raise ValueError("its objects need many times the memory of the file; a checkpoint's need about once")


def _num_bytes(value: Any) -> int:
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if isinstance(value, list | tuple | set | frozenset | dict):
        return 64 * len(value)
    return value.nbytes if isinstance(value, np.ndarray) else 0


def check_integer(value: int) -> int:
    """The value; ValueError if it has more digits than any number of a checkpoint."""
    if value.bit_length() > MAX_INTEGER_BITS:
        raise ValueError(f"an integer of {value.bit_length():,} bits")
    return value


def check_name(name: Any) -> str:
    """The name; ValueError if it is not text or too long."""
    if not isinstance(name, str):
        raise ValueError("a name is not text")
    if len(name) > MAX_NAME:
        raise ValueError(f"a name of {len(name):,} characters")
    return name


def as_key(value: Any) -> Any:
    """A dictionary key or set element whose hash is cheap and cannot be made to collide; tuples become text.

    Raises:
        ValueError: It is a nested or a long tuple, or of a type that is not hashable.
    """
    if isinstance(value, int):  # large integers of equal hash are easy to find
        return value if value.bit_length() <= 64 else str(check_integer(value))
    if value is None or isinstance(value, str | bytes | float | Global | Record | Tensor | np.dtype):
        return value
    if isinstance(value, complex):
        return str(value)
    if isinstance(value, tuple | frozenset) and len(value) <= MAX_KEY_PARTS:
        return check_name(f"({', '.join(_key_part(part) for part in value)})")
    raise ValueError(f"a {type(value).__name__} as a key")


def _key_part(part: Any) -> str:
    if isinstance(part, tuple | frozenset | Tensor):
        raise ValueError("a nested tuple as a key")
    return str(as_key(part))
