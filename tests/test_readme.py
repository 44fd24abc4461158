"""Every code block of the README runs: Python in one namespace, commands in a shell, specs through validation.

Commands of ganblocks are called in the tests' process, unless they have syntax of the shell. A block after "Save it as
`NAME`" is saved under that name for the blocks below it. A command that is shown with output must print these lines;
one that is shown alone must succeed. Files that the page refers to are in tests/readme. On other pages, commands must
exist with their options, and presets by name.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
import typer

from assemblies import read
from ganblocks.cli.app import build_app, main
from ganblocks.metrics.protocols import PROTOCOLS
from registry import catalogue

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FENCE = re.compile(r"^( *)```([\w+-]*)[^\n]*\n(.*?)^\1```[ ]*$", re.MULTILINE | re.DOTALL)
SAVED = re.compile(r"[Ss]ave (?:it|this|them) as\s+`([^`]+)`")
SETUP = ("make", "git", "cd", "sudo", "apt", "apt-get", "pip")  # commands that the tests' environment replaces
TIMEOUT = 900  # seconds
IN_PROCESS = re.compile(r"ganblocks [^<>|&;$`*?~()]*")  # nothing that a shell would expand


class Fenced(NamedTuple):
    """A fenced code block, and the file name under which the text before it says to save it."""

    line: int
    language: str
    code: str
    name: str | None


class Command(NamedTuple):
    """A command and the output that is shown with it."""

    line: str
    output: list[str]


def fenced(text: str) -> list[Fenced]:
    """The code blocks of a Markdown text."""
    blocks, end = [], 0
    for match in FENCE.finditer(text):
        indent, language, code = match.groups()
        names = SAVED.findall(text[end : match.start()])
        line, end = text[: match.start()].count("\n") + 1, match.end()
        blocks.append(Fenced(line, language, re.sub(f"^{indent}", "", code, flags=re.MULTILINE), (names or [None])[-1]))
    return blocks


def commands(code: str) -> list[Command]:
    """The commands of a shell block; lines after a command that starts with `$` are its output."""
    lines = [line.rstrip() for line in code.replace("\\\n", " ").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    result: list[Command] = []
    for line in lines:
        if line.startswith("$ "):
            result.append(Command(line.removeprefix("$ "), []))
        elif code.startswith("$ "):
            result[-1].output.append(line)
        else:
            result.append(Command(line, []))
    return [command for command in result if command.line.split()[0] not in SETUP]


def run(command: Command) -> None:
    code, printed = called(command.line) if IN_PROCESS.fullmatch(command.line) else executed(command.line)
    if command.output:
        lines = [" ".join(line.split()) for line in printed.splitlines()]
        missing = [line for line in command.output if " ".join(line.split()) not in lines]
        assert not missing, f"$ {command.line}\n{printed}\ndoes not print\n" + "\n".join(missing)
    else:
        assert code == 0, f"$ {command.line}\n{printed[-4000:]}"


def called(line: str) -> tuple[int, str]:
    """Exit code and output of a command of ganblocks in this process, where torch is imported already."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.setattr(sys, "argv", shlex.split(line, comments=True))
        try:
            main()
        except SystemExit as ended:
            return (ended.code if isinstance(ended.code, int) else int(ended.code is not None)), printed.getvalue()
    return 0, printed.getvalue()


def executed(line: str) -> tuple[int, str]:
    """Exit code and output of a line of a shell."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of all blocks, with links to the project's examples and docs as in a clone."""
    for name in ("examples", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    for path in (ROOT / "tests" / "readme").iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def test_every_block_of_the_readme_runs(folder: Path) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in fenced(README.read_text(encoding="utf-8")):
        try:
            perform(block, folder, namespace)
        except BaseException as error:
            error.add_note(f"in the block at {README}:{block.line}")
            raise


def perform(block: Fenced, folder: Path, namespace: dict[str, object]) -> None:
    if block.name is not None:
        (folder / block.name).write_text(block.code)
    if block.language == "python":
        exec(compile(block.code, f"{README}, line {block.line}", "exec", dont_inherit=True), namespace)
    elif block.language in ("console", "bash", "sh"):
        for command in commands(block.code):
            run(command)
    elif block.language in ("yaml", "json"):
        path = folder / (block.name or f"block.{block.language}")
        path.write_text(block.code)
        read(path)
    else:
        assert block.language in ("", "text", "toml", "mermaid"), f"blocks of language {block.language} are not run"


PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = re.compile(r"^(?: {4}|\$ )?ganblocks (?!is )([\w-]+)(.*)$", re.MULTILINE)
PRESET = re.compile(r"`((?:mini|stylenat|styleswin|vitgan|styleformer|stylegan-t|stylegan2)-[\w-]*\w)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_options_and_presets_of_every_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    known = typer.main.get_command(build_app()).commands  # type: ignore[attr-defined]
    for name, rest in SHOWN.findall(text):
        assert name in known, f"there is no command {name}"
        command = known[name]
        if hasattr(command, "commands"):  # a group, such as data
            subcommand, _, rest = rest.strip().partition(" ")
            assert subcommand in command.commands, f"there is no command {name} {subcommand}"
            command, rest = command.commands[subcommand], f" {rest}"
        options = {option for parameter in command.params for option in parameter.opts}
        unknown = set(re.findall(r"(?<=\s)--[\w-]+", rest.split(" # ")[0])) - options
        assert not unknown, f"{name} has no {unknown}"
    assert set(PRESET.findall(text)) <= {*catalogue.presets(), *PROTOCOLS}


def test_the_readme_names_every_command() -> None:
    named = {name for name, _ in SHOWN.findall(README.read_text(encoding="utf-8"))}
    assert set(typer.main.get_command(build_app()).commands) <= named  # type: ignore[attr-defined]


def test_blocks_and_commands_are_parsed() -> None:
    page = "Save it as `a.yaml`:\n\n```yaml\nkind: x\n```\n\n"
    page += (
        "```console\n$ make demo\nbuilding\n$ ganblocks \\\n  show\nshown\n```\n1. Or\n   ```python\n   x = 1\n   ```\n"
    )
    saved, console, python = fenced(page)
    assert (saved.line, saved.language, saved.name, console.name) == (3, "yaml", "a.yaml", None)
    assert commands(console.code) == [Command("ganblocks    show", ["shown"])]
    assert commands("# make it\nmake test\n\nganblocks doctor  # look\n") == [Command("ganblocks doctor  # look", [])]
    assert python.code == "x = 1\n"
