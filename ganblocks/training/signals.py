"""Stop signals: the current step is finished and the state saved before the process ends."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)  # SIGUSR1: of a batch system, before its limit


class StopSignal:
    """A context that stores the first SIGINT, SIGTERM, SIGHUP or SIGUSR1 in `signum`; a second one acts as usual.

    Args:
        merge_seconds: Signals that arrive so soon after the first one are the same stop: a launcher of several
            processes passes on what the system has sent to all of them.
    """

    def __init__(self, merge_seconds: float = 0.0) -> None:
        self.signum: int | None = None
        self.merge_seconds = merge_seconds
        self._merge_until = 0.0
        self._handlers: dict[int, Any] = {}

    @property
    def received(self) -> bool:
        return self.signum is not None

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():  # other threads may not set handlers
            for number in SIGNALS:
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue  # started by nohup
                self._handlers[number] = signal.signal(number, self._store)
        return self

    def __exit__(self, _type: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._restore()

    def _store(self, signum: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signum is None:
            self.signum, self._merge_until = signum, now + self.merge_seconds
        elif now >= self._merge_until:
            self._restore()
            signal.raise_signal(signum)

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
