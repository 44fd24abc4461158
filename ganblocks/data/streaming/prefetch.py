"""Fetches shards in a thread, before they are needed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType

from ganblocks.data.streaming.store import ShardStore

STOP_SECONDS = 10.0  # for which the end waits until a read returns


class ShardPrefetch:
    """A context at whose end the thread ends: one that reads Parquet when the interpreter exits makes it abort or hang.

    Args:
        store: The shards.
    """

    def __init__(self, store: ShardStore) -> None:
        self.store = store
        self.announced: SimpleQueue[Sequence[int]] = SimpleQueue()
        self.stopped = threading.Event()
        self.thread: threading.Thread | None = None

    def __enter__(self) -> ShardPrefetch:
        return self

    def __exit__(self, _type: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.stopped.set()
        self.announced.put(())
        if self.thread is not None:
            self.thread.join(STOP_SECONDS)

    def announce(self, numbers: Sequence[int]) -> None:
        """Fetch shards in this order, instead of those that were announced before."""
        self.announced.put(numbers)
        if self.thread is None:  # not earlier: worker processes are forked before
            self.thread = threading.Thread(target=self.run, name="shards", daemon=True)
            self.thread.start()

    def run(self) -> None:
        while not self.stopped.is_set():
            for number in self.announced.get():
                if self.stopped.is_set() or not self.announced.empty():
                    break
                with suppress(Exception):  # whoever needs the shard tries again, and reports why it cannot be read
                    self.store.try_to_fetch(number, self.stopped.is_set)
