"""Text of other people on the terminal: names of files, tensors, pickled classes and plugins may contain anything."""

from __future__ import annotations

LINE_LIMIT = 2000  # characters
LINES_LIMIT = 200


def printable(text: str) -> str:
    """Text without control sequences: control characters are escaped as in Python, long lines and long texts are cut.

    Newlines and tabs stay. A cut says how much is missing.
    """
    lines = text.split("\n")
    shown = [
        _cut("".join(_escaped(character) for character in line[: LINE_LIMIT + 1]), len(line))
        for line in lines[:LINES_LIMIT]
    ]
    if len(lines) > LINES_LIMIT:
        shown.append(f"... and {len(lines) - LINES_LIMIT:,} more lines")
    return "\n".join(shown)


def _escaped(character: str) -> str:
    if character.isprintable() or character == "\t":
        return character
    return character.encode("unicode_escape").decode("ascii")


def _cut(line: str, length: int) -> str:
    return line if length <= LINE_LIMIT else f"{line[:LINE_LIMIT]}... ({length:,} characters)"
