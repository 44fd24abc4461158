"""Runs a function in a process of its own with limits on memory and time, for work on files of unknown origin.

A crash or an endless computation then ends that process only, also if its parent was killed meanwhile. Linux only: the
process is forked.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import signal
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import torch

from assemblies.model_file import CheckpointError

T = TypeVar("T")
SECONDS, MEMORY = 600.0, 8 * 2**30
SIZES = 6  # times the size of the file that is added to the memory limit


def run_in_worker(
    function: Callable[..., T],
    arguments: tuple[Any, ...],
    failure: str,
    *,
    seconds: float = SECONDS,
    memory: int | None = None,
) -> T:
    """`function(*arguments)`, computed in a forked process; its result or error is passed back by pickling.

    Args:
        function: The function.
        arguments: Its arguments; the first one is the path of a file.
        failure: Beginning of the error's message where the process fails.
        seconds: Limit on the time, and on the time of the processor.
        memory: Limit on the memory that is added, in bytes; by default 8 GiB and 6 times the file.

    Raises:
        CheckpointError: The process crashed, or exceeded a limit.
    """
    if memory is None:
        path = Path(arguments[0])
        memory = MEMORY + SIZES * (path.stat().st_size if path.is_file() else 0)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, seconds, memory, function, arguments), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which the child does not use
        process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise CheckpointError(f"{failure}: it takes more than {seconds:.0f} seconds")
        outcome: tuple[BaseException | None, Any] = receiver.recv()
    except EOFError:
        process.join()
        code = process.exitcode or 0
        if code == -signal.SIGXCPU:
            raise CheckpointError(f"{failure}: it takes more than {seconds:.0f} seconds of the processor") from None
        reason = signal.strsignal(-code) if code < 0 else f"exit code {code}"
        raise CheckpointError(f"{failure}: the process that read it ended with: {reason}") from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    error, result = outcome
    if isinstance(error, MemoryError):
        raise CheckpointError(f"{failure}: it needs more than {memory / 2**30:.1f} GiB of memory")
    if error is not None:
        raise error
    value: T = result
    return value


def _work(
    sender: Connection, seconds: float, memory: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    limit = memory + _data_bytes()
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    _limit_processor_time(math.ceil(seconds))
    torch.set_num_threads(1)  # the parent's threads do not exist here
    try:
        outcome: tuple[BaseException | None, Any] = None, function(*arguments)
    except KeyboardInterrupt:
        return
    except MemoryError:
        outcome = MemoryError(), None
    except RuntimeError as error:
        outcome = MemoryError() if "can't allocate memory" in str(error) else error, None
    except Exception as error:
        outcome = error, None
    sender.send(outcome)


def _limit_processor_time(seconds: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    limit = seconds if hard == resource.RLIM_INFINITY else min(seconds, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _data_bytes() -> int:
    """Bytes that count towards RLIMIT_DATA already."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))
