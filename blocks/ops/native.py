"""C++ beside a kernel, compiled when a machine first wants it and kept for that machine.

A source is one file that needs no headers but the compiler's own, so that compiling takes seconds and nothing but `c++`
(or the compiler that CXX names) has to be there. Threads come from the OpenMP that torch has loaded already: a second
one would fight over the processor with it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch  # noqa: F401  (brings the OpenMP that what is compiled here calls)

from registry.tuning import folder, identity

FLAGS = ("-O3", "-march=native", "-fopenmp", "-fPIC", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-w")
SECONDS = 120
ENABLE = "sudo apt install g++"


class Unavailable(RuntimeError):
    """Nothing can be compiled or loaded here; the message says why."""


@cache
def compiler() -> tuple[str, ...] | None:
    """The command that compiles C++, if there is one."""
    chosen = shlex.split(os.environ.get("CXX", ""))
    candidates = [chosen] if chosen else [["c++"], ["g++"], ["clang++"]]
    return next((tuple(command) for command in candidates if shutil.which(command[0])), None)


@cache
def library(source: Path) -> ctypes.CDLL:
    """What a source compiles to, loaded.

    Raises:
        Unavailable: There is no compiler, it refuses the source, or what it makes cannot be loaded.
    """
    command = compiler()
    if command is None:
        raise Unavailable("there is no C++ compiler (c++, g++, clang++, or the one that CXX names)")
    version = _run([*command, "--version"])
    told = [source.read_text(), *FLAGS, *command, version, str(identity()["processor"])]
    digest = hashlib.sha256("\0".join(told).encode()).hexdigest()[:16]
    target = folder() / "compiled" / f"{source.stem}-{digest}.so"
    if not target.exists():
        _compile(command, source, target)
    try:
        return ctypes.CDLL(str(target))
    except OSError as error:
        raise Unavailable(f"what was compiled cannot be loaded: {error}") from error


@cache
def why_not(source: Path) -> str | None:
    """Why a source cannot be used here; None when it can."""
    try:
        library(source)
    except Unavailable as error:
        return str(error)
    return None


def _compile(command: tuple[str, ...], source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            compiled, linked = Path(scratch) / "code.o", Path(scratch) / target.name
            _run([*command, *FLAGS, "-c", str(source), "-o", str(compiled)])
            # linked without -fopenmp: its functions are then those that are loaded already
            _run([*command, "-shared", str(compiled), "-o", str(linked)])
            os.replace(linked, target)
    except OSError as error:
        raise Unavailable(f"what is compiled cannot be kept in {target.parent}: {error}") from error


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{shlex.join(command)}: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or [""]
        raise Unavailable(f"{command[0]} failed: {lines[0].strip()}")
    return done.stdout
