"""Parses and runs the commands that pages show.

Commands of ganblocks are parsed by the real options, and run in the tests' process, where torch is imported already.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from torch.distributed.run import get_args_parser

from ganblocks.cli.app import build_app, main
from tests.docs.markdown import COMMANDS, ROOT, Command, Fenced
from tests.docs.markdown import commands as commands_of

SETUP = ("make", "git", "cd", "sudo", "apt", "apt-get", "pip")  # commands that the tests' environment replaces
TIMEOUT = 900  # seconds
PLACEHOLDERS = {"SPEC": "SPEC.yaml"}
SHORT = {  # options after those of the page, so that a command takes seconds; tests/docs/files.py has the files
    "train": ["--kimg", "0.032", "--log-every-kimg", "0.016", "--workers", "0"],
    "project": ["--steps", "2"],
    "evaluate": ["--num", "48"],
}
FID = ["--metrics", "fid", "--set", "fid.extractor=torchscript", "--extractor-weights", "torchscript=pooled.pt"]
FITTING = {  # options that the small files need, by a word of the command
    "--protocol": ["--reference-num", "48"],
    "--save-reference": ["--resolution", "16"],
    "gen_ema.pt": ["--set", "heads=3"],
}


@contextmanager
def naming(page: Path, block: Fenced) -> Iterator[None]:
    """A context whose errors name the block."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the block at {page}:{block.line}")
        raise


def run_block(page: Path, block: Fenced, namespace: dict[str, object], *, short: bool = True) -> None:
    """Run a block's Python in a namespace, or its commands; other blocks are left as they are."""
    if block.language == "python":
        exec(compile(block.code, f"{page}, line {block.line}", "exec", dont_inherit=True), namespace)
    elif block.language in COMMANDS:
        for command in commands_of(block.code):
            run(command, short=short)


@cache
def known() -> Any:
    return typer.main.get_command(build_app())


def check(words: list[str]) -> None:
    """Parse a command by the options of its program; files and modules of this project that it names must exist."""
    while re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    words = words[: words.index(">")] if ">" in words else words
    program, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
    if program == "ganblocks":
        check_ganblocks(arguments)
    elif program == "torchrun":
        parsed = get_args_parser().parse_args(arguments)
        check_module(parsed.training_script, parsed.training_script_args)
    elif program in ("accelerate", "chrt"):
        check_module(*_after_module(arguments))
        assert all((ROOT / word).is_file() for word in arguments if word.startswith("examples/"))
    elif program == "python":
        module = arguments[0] == "-m"
        check_module(arguments[1], arguments[2:]) if module else check_script(ROOT / arguments[0], arguments[1:])
    elif program == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
    elif program == "pip":
        extras = {name for word in arguments for name in re.findall(r"ganblocks\[(.*)\]", word)}
        assert extras <= set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    elif program in ("pytest", "sbatch", "kubectl"):
        paths = [word for word in arguments if "/" in word and not word.startswith((".", "-"))]
        assert all((ROOT / path).exists() for path in paths), words
    else:
        raise AssertionError(f"tests/docs/commands.py does not parse {program}")


def check_ganblocks(arguments: list[str]) -> None:
    command, name = known(), "ganblocks"
    while hasattr(command, "commands"):  # the program, or a group such as data
        assert arguments, f"{name} has commands"
        assert arguments[0] in command.commands, f"{name} has no command {arguments[0]}"
        name, command, arguments = f"{name} {arguments[0]}", command.commands[arguments[0]], arguments[1:]
    try:
        command.make_context(name, list(arguments))
    except Exception as error:
        raise AssertionError(f"{name} {shlex.join(arguments)}: {error}") from None


def check_module(module: str, arguments: list[str]) -> None:
    if module == "ganblocks":
        check_ganblocks(arguments)
    elif module != "pytest":
        path = ROOT / module.replace(".", "/")
        check_script(path / "__main__.py" if path.is_dir() else path.with_suffix(".py"), arguments)


def check_script(path: Path, arguments: list[str]) -> None:
    """Its options occur in its source, or in that of its package."""
    assert path.is_file(), path
    source = "".join(file.read_text() for file in path.parent.glob("*.py"))
    unknown = [word for word in arguments if word.startswith("--") and f'"{word}"' not in source]
    assert not unknown, f"{path} has no {unknown}"


def _after_module(arguments: list[str]) -> tuple[str, list[str]]:
    position = arguments.index("-m") + 1
    return arguments[position], arguments[position + 1 :]


def run(command: Command, *, short: bool = True) -> None:
    """Run a command: it must print the lines that are shown with it, or succeed if none are."""
    words = [PLACEHOLDERS.get(word, word) for word in command.words]
    if words[0] in SETUP:
        return
    if short and "ganblocks" in words:
        words = shortened(words)
    if words[0] == "ganblocks":
        code, printed = called(words)
    else:
        code, printed = executed(shlex.join(words))
    if command.output:
        lines = [" ".join(line.split()) for line in printed.splitlines()]
        missing = [line for line in command.output if " ".join(line.split()) not in lines]
        assert not missing, f"$ {command.line}\n{printed}\ndoes not print\n" + "\n".join(missing)
    else:
        assert code == 0, f"$ {command.line}\n{printed[-4000:]}"


def shortened(words: list[str]) -> list[str]:
    """The command with options that make it short, and that the files of tests/docs/files.py need."""
    words, name = list(words), words[words.index("ganblocks") + 1]
    if name == "estimate":
        words[2] = "SPEC.yaml"
    if "--nproc-per-node" in words:
        words[words.index("--nproc-per-node") + 1] = "2"
    if name == "train" and "--resume" not in words and "--out" in words:
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)  # each training of a page starts anew
    more = SHORT.get(name, []) + [option for word in words for option in FITTING.get(word, [])]
    if name == "train" and "--resume" in words:
        more += ["--kimg", "0.064"]
    if name == "evaluate" and "digit" not in words:
        more += FID
    return words + more


def called(words: list[str]) -> tuple[int, str]:
    """Exit code and output of a command of ganblocks in this process; `> FILE` at its end writes its output."""
    target = words[-1] if ">" in words else None
    words = words[: words.index(">")] if target else words
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setattr(sys, "argv", words)
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    if target:
        Path(target).write_text(output.getvalue())
    return code, errors.getvalue() + output.getvalue()


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
