"""Random damage of bytes."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(content: bytes, random: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """The content with one to eight random changes: bits, integers, cuts, copies, or a part of another content."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        _change(changed, random, others)
    return bytes(changed)


def _change(content: bytearray, random: random.Random, others: Sequence[bytes]) -> None:
    # headers are at the beginning
    limit = random.choice((32, 128, len(content)))
    position = random.randrange(max(1, min(limit, len(content))))
    length = random.choice((1, 4, 16, 256))
    match random.randrange(8 if others else 7):
        case 0:
            content[position : position + 1] = bytes([random.randrange(256)])
        case 1:
            for _ in range(random.choice((1, 10, 100))):
                if content:
                    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        case 2:
            size, order = random.choice((1, 2, 4)), random.choice("<>")
            value = random.choice(EXTREMES) % 256**size
            content[position : position + size] = struct.pack(f"{order}{' BH I'[size]}", value)
        case 3:
            del content[position:]
        case 4:
            del content[position : position + length]
        case 5:
            content[position:position] = content[position : position + length] * random.choice((1, 2, 50))
        case 6:
            content[position : position + length] = random.randbytes(length)
        case 7:
            other = random.choice(others)
            start = random.randrange(max(1, len(other)))
            content[position : position + length] = other[start : start + length]
