"""Code blocks of Markdown pages, and the commands in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

FENCE = re.compile(r"^( *)```([\w+-]*)[^\n]*\n(.*?)^\1```[ ]*$", re.MULTILINE | re.DOTALL)
SAVED = re.compile(r"[Ss]ave (?:it|this|them) as\s+`([^`]+)`")
MARKER = re.compile(r"<!-- not run: (.*?) -->\s*\Z", re.DOTALL)
INLINE = re.compile(r"(?<!`)`((?:ganblocks|torchrun|python|make) [^`]+)`(?!`)")
LANGUAGES = {"bash", "console", "python", "yaml", "json", "text", "toml", "mermaid", ""}
COMMANDS = ("bash", "console")


class Fenced(NamedTuple):
    """A fenced code block.

    Args:
        line: Number of its first line in the page.
        language: The word after the fence.
        code: Its text.
        name: The file name under which the text before it says to save it.
        reason: Why the tests do not run it, from a comment `<!-- not run: REASON -->` before it; None if they do.
    """

    line: int
    language: str
    code: str
    name: str | None = None
    reason: str | None = None


class Command(NamedTuple):
    """A command and the output that is shown with it."""

    line: str
    output: list[str]

    @property
    def words(self) -> list[str]:
        """Its words; operators of the shell are words of their own."""
        lexer = shlex.shlex(self.line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        return list(lexer)


def fenced(text: str) -> list[Fenced]:
    """The code blocks of a Markdown text."""
    blocks, end = [], 0
    for match in FENCE.finditer(text):
        indent, language, code = match.groups()
        before = text[end : match.start()]
        line, end = text[: match.start()].count("\n") + 1, match.end()
        code = re.sub(f"^{indent}", "", code, flags=re.MULTILINE)
        names, marker = SAVED.findall(before), MARKER.search(before)
        blocks.append(Fenced(line, language, code, (names or [None])[-1], marker[1] if marker else None))
    return blocks


def commands(code: str) -> list[Command]:
    """The commands of a shell block; lines after a command that starts with `$` are its output."""
    lines = [line.rstrip() for line in code.replace("\\\n", " ").splitlines()]
    result: list[Command] = []
    for line in (line for line in lines if line and not line.startswith("#")):
        if line.startswith("$ "):
            result.append(Command(line.removeprefix("$ "), []))
        elif code.startswith("$ "):
            result[-1].output.append(line)
        else:
            result.append(Command(line, []))
    return result


def outside_blocks(text: str) -> str:
    """The text of a page without its fenced blocks."""
    return FENCE.sub("", text)
