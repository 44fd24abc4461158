"""Short forms of text from files, such as names of tensors, for messages."""

from __future__ import annotations


def excerpt(text: object, limit: int = 100) -> str:
    """The beginning of the text, of at most `limit` characters, with control characters escaped."""
    short = str(text)
    if len(short) > limit:
        short = f"{short[: limit - 3]}..."
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in short)
