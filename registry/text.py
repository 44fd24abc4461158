"""Text of other people in messages: names of files, tensors, options and plugins may contain anything and be long."""

from __future__ import annotations

LINE_LIMIT = 2000  # characters
LINES_LIMIT = 200
TAB = "\t"


def excerpt(text: object, limit: int = 100) -> str:
    """The beginning of the text on one line, of at most `limit` characters, with control characters escaped."""
    whole = str(text)
    return escaped(whole if len(whole) <= limit else f"{whole[: limit - 3]}...")


def printable(text: str) -> str:
    """Text for a terminal: control characters are escaped as in Python, long lines and long texts are cut.

    Newlines and tabs stay. A cut says how much is missing.
    """
    lines = text.split("\n")
    shown = [escaped(line, keep=TAB) if len(line) <= LINE_LIMIT else _cut(line) for line in lines[:LINES_LIMIT]]
    if len(lines) > LINES_LIMIT:
        shown.append(f"... and {len(lines) - LINES_LIMIT:,} more lines")
    return "\n".join(shown)


def escaped(text: str, keep: str = "") -> str:
    """Text with control characters and lone surrogates escaped as in Python, but for those in `keep`."""
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode("ascii") for each in text
    )


def _cut(line: str) -> str:
    return f"{escaped(line[:LINE_LIMIT], keep=TAB)}... ({len(line):,} characters)"
