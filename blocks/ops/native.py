"""C++ kernels, compiled on the machine that runs them and cached on disk.

A source includes no library but <stdint.h> and headers beside it (*.h): it compiles in seconds and needs nothing but
`c++` (or the compiler named by CXX). The OpenMP runtime is the one that torch has already loaded; a second one would
compete with it for the cores.
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

import torch  # noqa: F401  (loads the OpenMP runtime that the compiled code calls)

from registry.tuning import folder, identity

FLAGS = ("-O3", "-march=native", "-fopenmp", "-fPIC", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-w")
TIMEOUT = 120  # seconds
ENABLE = "sudo apt install g++"


class CompileError(RuntimeError):
    """A source cannot be compiled or loaded here; the message gives the reason."""


@cache
def compiler() -> tuple[str, ...] | None:
    """The command of the C++ compiler: that of CXX, or the first of c++, g++ and clang++; None without one."""
    from_environment = shlex.split(os.environ.get("CXX", ""))
    candidates = [from_environment] if from_environment else [["c++"], ["g++"], ["clang++"]]
    return next((tuple(command) for command in candidates if shutil.which(command[0])), None)


@cache
def library(source: Path) -> ctypes.CDLL:
    """The shared library of a source, compiled if the cache does not hold it yet.

    Raises:
        CompileError: There is no compiler, it rejects the source, or its result cannot be loaded.
    """
    command = compiler()
    if command is None:
        raise CompileError("there is no C++ compiler (c++, g++, clang++, or the one that CXX names)")
    version = _run([*command, "--version"])
    headers = sorted(source.parent.glob("*.h"))
    key = [*(file.read_text() for file in (source, *headers)), *FLAGS, *command, version, str(identity()["processor"])]
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]
    target = folder() / "compiled" / f"{source.stem}-{digest}.so"
    if not target.exists():
        _compile(command, source, target)
    try:
        return ctypes.CDLL(str(target))
    except OSError as error:
        raise CompileError(f"the compiled library cannot be loaded: {error}") from error


@cache
def unavailable(source: Path) -> str | None:
    """The reason why a source cannot be used here; None when it can."""
    try:
        library(source)
    except CompileError as error:
        return str(error)
    return None


def _compile(command: tuple[str, ...], source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            compiled, linked = Path(scratch) / "code.o", Path(scratch) / target.name
            _run([*command, *FLAGS, "-c", str(source), "-o", str(compiled)])
            # linked without -fopenmp, so that its symbols resolve to the runtime that is already loaded
            _run([*command, "-shared", str(compiled), "-o", str(linked)])
            os.replace(linked, target)
    except OSError as error:
        raise CompileError(f"the compiled library cannot be written to {target.parent}: {error}") from error


def _run(command: list[str]) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{shlex.join(command)}: {error}") from error
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines() or [""]
        raise CompileError(f"{command[0]} failed: {lines[0].strip()}")
    return result.stdout
