"""C++ kernels, compiled on the machine that runs them and cached on disk.

A source includes no library but <stdint.h> and headers (*.h) beside it or in the folder above: it compiles in seconds
and needs nothing but `c++` (or the compiler named by CXX). The OpenMP runtime is the one that torch has already loaded;
a second one would compete with it for the cores.

A library is loaded only from a folder that nobody else can write to, and if it has the hash in its file name: a
truncated one would end the process by SIGBUS. Without such a folder each process compiles into one of its own.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import warnings
from functools import cache
from pathlib import Path

import torch  # noqa: F401  (loads the OpenMP runtime that the compiled code calls)

from registry.cache_folder import folder, why_untrusted
from registry.tuning import identity

FLAGS = ("-O3", "-march=native", "-fopenmp", "-fPIC", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-w")
TIMEOUT = 120  # seconds
ENABLE = "sudo apt install g++"
USUAL = ("c++", "g++", "clang++")


class CompileError(RuntimeError):
    """A source cannot be compiled or loaded here; the message gives the reason."""


@cache
def compiler() -> tuple[str, ...] | None:
    """The command of the C++ compiler: that of CXX, or the first of c++, g++ and clang++; None without one."""
    named = () if compiler_problem() else tuple(shlex.split(os.environ.get("CXX", "")))
    return named or next(((name,) for name in USUAL if shutil.which(name)), None)


def compiler_problem() -> str | None:
    """Why the compiler that CXX names is not used; None if it is, or if CXX names none."""
    text = os.environ.get("CXX", "")
    try:
        command = shlex.split(text)
    except ValueError as error:
        return f"CXX={text!r} is not a command ({error}); another compiler is used if there is one"
    if command and not shutil.which(command[0]):
        return f"CXX={text!r} is not a program here; another compiler is used if there is one"
    return None


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
    headers = sorted([*source.parent.glob("*.h"), *source.parent.parent.glob("*.h")])
    key = [*(file.read_text() for file in (source, *headers)), *FLAGS, *command, version, str(identity()["processor"])]
    name = f"{source.stem}-{hashlib.sha256(chr(0).join(key).encode()).hexdigest()[:16]}"
    try:
        path = _find(name) or _compile(command, source, name)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise CompileError(f"the compiled library cannot be written or loaded: {error}") from error


@cache
def cache_problem() -> str | None:
    """Why compiled libraries are not cached; None if they are."""
    try:
        cached = _cached()
        cached.mkdir(mode=0o700, parents=True, exist_ok=True)
        if reason := why_untrusted(cached):
            return f"{reason}; delete it, or set its owner and mode 700"
        with tempfile.TemporaryFile(dir=cached):
            return None
    except OSError as error:
        return str(error)


@cache
def unavailable(source: Path) -> str | None:
    """The reason why a source cannot be used here; None when it can."""
    try:
        library(source)
    except CompileError as error:
        return str(error)
    return None


def problems() -> list[str]:
    """What keeps kernels from being compiled as configured, or from being cached."""
    cache = f"compiled kernels are not cached: {problem}" if (problem := cache_problem()) else None
    return [each for each in (compiler_problem(), cache) if each]


@cache
def _private() -> Path:
    """A folder of this process alone, removed at its end."""
    warnings.warn(f"compiled kernels are not cached, each process compiles them: {cache_problem()}", stacklevel=2)
    private = Path(tempfile.mkdtemp(prefix="ganblocks-"))
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    return private


def _find(name: str) -> Path | None:
    """The cached library of that name, if it has its hash and nobody else could have written it."""
    try:
        cached = _cached()
        paths = [] if why_untrusted(cached) else cached.glob(f"{name}-*.so")
        return next(
            (path for path in paths if not why_untrusted(path) and path.stem == f"{name}-{_digest(path)}"), None
        )
    except OSError:  # there is no folder yet
        return None


def _cached() -> Path:
    return folder() / "compiled"


def _compile(command: tuple[str, ...], source: Path, name: str) -> Path:
    """Compile a source; the file appears under its name at once and whole."""
    target = _private() if cache_problem() else _cached()
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        compiled, linked = Path(scratch) / "code.o", Path(scratch) / f"{name}.so"
        _run([*command, *FLAGS, "-c", str(source), "-o", str(compiled)])
        # linked without -fopenmp, so that its symbols resolve to the runtime that is already loaded
        _run([*command, "-shared", str(compiled), "-o", str(linked)])
        linked.chmod(0o700)
        path = target / f"{name}-{_digest(linked)}.so"
        os.replace(linked, path)
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _run(command: list[str]) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{shlex.join(command)}: {error}") from error
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines() or [""]
        raise CompileError(f"{command[0]} failed: {lines[0].strip()}")
    return result.stdout
