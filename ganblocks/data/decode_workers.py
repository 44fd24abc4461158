"""Worker processes that decode images. They ignore the signals that stop a training, and their failures are reported.

When a worker dies, PyTorch's DataLoader raises an error in the middle of a training step; for a worker that hangs, it
waits without end. Here both raise an error between two batches, when the state of the training can be saved.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import DataLoader

from ganblocks.errors import DataError

POLL_SECONDS = 1.0
TIME_LIMIT = 600.0  # seconds without a batch


def batches_of_workers(loader: DataLoader[Any], stopped: Callable[[], bool]) -> Iterator[Any]:
    """Batches of a loader; they end when `stopped()` while waiting for one.

    Raises:
        DataError: A worker died, or there was no batch for `TIME_LIMIT` seconds.
    """
    before = set(multiprocessing.active_children())
    iterator: Any = iter(loader)
    workers = [each for each in multiprocessing.active_children() if each not in before]
    with _without_sigchld_handler():
        try:
            while (batch := _result(_next_in_thread(iterator), workers, stopped)) is not None:
                yield batch
            _kill(workers)  # rather than wait for them: the state of the training is to be saved
        except DataError:
            _kill(workers)
            raise
        finally:
            iterator._shutdown_workers()  # now, since a traceback may keep the iterator, and with it dead workers
            _kill(workers)


def keep_running() -> None:
    """Let a worker ignore the signals that reach all processes of a training, which ends its workers itself.

    Only the first SIGTERM, SIGHUP and SIGUSR1 are ignored, so that a worker without a training can be ended.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda signum, _frame: signal.signal(signum, signal.SIG_DFL))


def _kill(workers: list[BaseProcess]) -> None:
    """Kill the workers that still run; one that was stopped reacts to no other signal."""
    for worker in workers:
        if worker.is_alive():
            worker.kill()


def _next_in_thread(iterator: Iterator[Any]) -> Future[Any]:
    """The next element of an iterator, None after the last one.

    A read from a worker that hangs cannot be interrupted, and PyTorch's iterator may wait for a dead worker without
    end. The thread is a daemon, so that the process ends all the same.
    """
    future: Future[Any] = Future()

    def read() -> None:
        try:
            future.set_result(next(iterator, None))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=read, name="batches", daemon=True).start()
    return future


def _result(batch: Future[Any], workers: list[BaseProcess], stopped: Callable[[], bool]) -> Any:
    """A batch that a thread waits for; None if `stopped()`, or after the last one."""
    start = time.monotonic()
    while True:
        try:
            return batch.result(timeout=POLL_SECONDS)
        except (RuntimeError, OSError, EOFError, TimeoutError) as error:
            if isinstance(error, ConnectionError | EOFError):  # the end of a worker, which may take a moment to be seen
                for worker in workers:
                    worker.join(timeout=POLL_SECONDS)
            if dead := [worker for worker in workers if not worker.is_alive()]:
                ends = ", ".join(f"process {worker.pid} ended with code {worker.exitcode}" for worker in dead)
                raise DataError(
                    f"a worker that decodes images died ({ends}; -9 is often a lack of memory); "
                    "try fewer --workers, or 0"
                ) from error
            if batch.done():
                raise
        if stopped():
            return None
        if time.monotonic() - start > TIME_LIMIT:
            pids = ", ".join(str(worker.pid) for worker in workers)
            raise DataError(
                f"the workers that decode images (processes {pids}) have delivered nothing for {TIME_LIMIT:g} seconds; "
                "check the disk that holds the images, or try --workers 0"
            )


@contextmanager
def _without_sigchld_handler() -> Iterator[None]:
    """A context without PyTorch's handler of SIGCHLD, which raises an error wherever the program is."""
    if threading.current_thread() is not threading.main_thread():  # other threads may not set handlers
        yield
        return
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)
