"""Text from files of others, such as names of tensors, for messages."""

from __future__ import annotations


def printable(text: object, limit: int = 100) -> str:
    """The text without control characters, which terminals interpret, and cut at `limit` characters."""
    short = str(text)
    if len(short) > limit:
        short = f"{short[: limit - 3]}..."
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in short)
