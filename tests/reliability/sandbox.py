"""Runs a function on hostile files in a process that may neither start programs nor use the network.

Each file has limits on time and memory. A process that dies or hangs is replaced, and the file is reported.
"""

from __future__ import annotations

import gc
import multiprocessing
import re
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ganblocks.cli.app import user_errors
from ganblocks.data.skipped import UnreadableError

SECONDS = 10.0  # of the processor, which does not depend on what else the machine does
HANGS = 60.0  # seconds
MEMORY = 2 * 2**30
MAX_MESSAGE = 20_000  # characters; the command line cuts longer lines
FORBIDDEN = re.compile(r"socket\.(connect|getaddrinfo|bind|sendto)|subprocess|os\.(system|exec|posix_spawn|fork)|pty\.")
OUT_OF_MEMORY = re.compile(r"MemoryError|can't allocate memory|Cannot allocate memory|Unable to allocate")


class BreachError(BaseException):
    """Code of a file would start a program, use the network or open a forbidden file; not an Exception."""


class Outcome(NamedTuple):
    """What became of a file.

    Args:
        name: The file.
        kind: "used", "refused" or "failed".
        message: The message of the error.
        seconds: Time of the processor that it took.
        memory: Bytes by which the memory of the process grew meanwhile, at most.
    """

    name: str
    kind: str
    message: str
    seconds: float
    memory: int

    @property
    def failure(self) -> str | None:
        """Why this is not acceptable; None if it is."""
        if self.kind == "failed":
            return f"{self.name}: {self.message}"
        if self.seconds > SECONDS:
            return f"{self.name}: {self.seconds:.1f} seconds"
        if self.memory > MEMORY or OUT_OF_MEMORY.search(self.message):
            return f"{self.name}: {self.memory / 2**30:.2f} GiB, {self.message}"
        return (
            f"{self.name}: a message of {len(self.message):,} characters" if len(self.message) > MAX_MESSAGE else None
        )


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.failure for outcome in outcomes if outcome.failure]


def summary(outcomes: Sequence[Outcome]) -> str:
    """Counts, and the largest time and memory."""
    kinds = [outcome.kind for outcome in outcomes]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("used", "refused", "failed"))
    seconds, memory = max(each.seconds for each in outcomes), max(each.memory for each in outcomes)
    return f"{len(outcomes)} cases: {counts}; at most {seconds:.1f} s and {memory / 2**20:.0f} MiB"


def run_sandboxed(
    function: Callable[[Any], object], cases: Sequence[tuple[str, Any]], *, forbidden_files: Sequence[Path] = ()
) -> list[Outcome]:
    """The outcome of `function(argument)` for each case (name, argument).

    Args:
        function: Raises one of this project's errors, or succeeds.
        cases: A name and an argument each; an argument that is a function is called first, which is not measured.
        forbidden_files: Files that must not be opened.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < len(cases):
        outcomes += _run_until_end_of_process(function, cases[len(outcomes) :], forbidden_files)
    return outcomes


def _run_until_end_of_process(
    function: Callable[[Any], object], cases: Sequence[tuple[str, Any]], forbidden_files: Sequence[Path]
) -> list[Outcome]:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, function, cases, forbidden_files), daemon=True)
    process.start()
    sender.close()
    outcomes: list[Outcome] = []
    try:
        while len(outcomes) < len(cases):
            name = cases[len(outcomes)][0]
            if not receiver.poll(HANGS):
                return [*outcomes, Outcome(name, "failed", f"hangs for {HANGS:.0f} seconds", HANGS, 0)]
            outcomes.append(receiver.recv())
    except EOFError:
        process.join()
        outcomes.append(Outcome(name, "failed", f"the process ended with code {process.exitcode}", 0.0, 0))
    finally:
        process.kill()
        process.join()
        receiver.close()
    return outcomes


def _work(
    sender: Connection,
    function: Callable[[Any], object],
    cases: Sequence[tuple[str, Any]],
    forbidden_files: Sequence[Path],
) -> None:
    torch.set_num_threads(1)  # the parent's threads do not exist here
    limit = _status("VmData") + MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    sys.addaudithook(_hook({str(path) for path in forbidden_files}))
    gc.freeze()  # collections, one before each file, skip what exists now
    for name, argument in cases:
        if callable(argument):
            argument = argument()
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        before, start = _status("VmRSS"), time.process_time()
        kind, message = _attempt(function, argument)
        sender.send(Outcome(name, kind, message, time.process_time() - start, _status("VmHWM") - before))


def _attempt(function: Callable[[Any], object], argument: Any) -> tuple[str, str]:
    try:
        function(argument)
    except (*user_errors(), UnreadableError) as error:
        return "refused", str(error)
    except BaseException:  # also SystemExit, and what an audit hook raises
        return "failed", traceback.format_exc()[-3000:]
    return "used", ""


def _hook(forbidden_files: set[str]) -> Callable[[str, tuple[Any, ...]], None]:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if FORBIDDEN.match(event):
            raise BreachError(f"{event} {arguments}")
        if event == "open":
            with suppress(TypeError):
                if str(arguments[0]) in forbidden_files:
                    raise BreachError(f"{event} {arguments}")

    return hook


def _status(name: str) -> int:
    """A size of this process in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
