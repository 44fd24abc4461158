"""Text in messages: names of other people, which may contain anything and be long, counts, docstrings of blocks."""

from __future__ import annotations

import inspect
import re

LINE_LIMIT = 2000  # characters
LINES_LIMIT = 200
TAB = "\t"


def excerpt(text: object, limit: int = 100) -> str:
    """The beginning of the text on one line, of at most `limit` characters, with control characters escaped."""
    whole = str(text)
    return escaped(whole if len(whole) <= limit else f"{whole[: limit - 3]}...")


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with a noun in singular or plural, such as `1 file` or `2,000 files`; the plural of most ends in s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


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


def parse_docstring(text: str | None) -> tuple[str, dict[str, str]]:
    """Summary line and argument descriptions of a Google-style docstring."""
    lines = inspect.cleandoc(text or "").splitlines()
    summary = lines[0].strip() if lines else ""
    described: dict[str, str] = {}
    current = None
    for line in lines[lines.index("Args:") + 1 :] if "Args:" in lines else []:
        if line and not line.startswith(" "):
            break
        if match := re.match(r" {4}(\w+):\s*(.*)", line):
            current = match[1]
            described[current] = match[2]
        elif current and line.strip():
            described[current] += " " + line.strip()
    return summary, described
