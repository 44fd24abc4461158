"""Shards on this machine: their indexes, and copies of those from elsewhere, in a folder of bounded size.

All processes of a machine share the folder. One of them copies a shard while the others that need it wait.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from ganblocks.data.captions import Captions
from ganblocks.data.skipped import Skipped, reason_for
from ganblocks.errors import DataError
from registry.spec_file import write_atomically

PAUSES = (1.0, 10.0, 60.0)  # seconds before a copy that failed is tried again
_mutexes: dict[int, threading.Lock] = {}  # by process: one that another process inherits may be held


class Row(NamedTuple):
    """An image of a shard.

    Args:
        name: Its path in the shard.
        offset: Position of its bytes in the file of the shard.
        size: Their number.
        label: Its class, as a number from 0 or a name; None without classes.
        captions: Its captions.
        problem: Why its class or captions cannot be read.
    """

    name: str
    offset: int
    size: int
    label: int | str | None = None
    captions: Captions = ()
    problem: str | None = None


class ShardIndex(NamedTuple):
    """What a shard has.

    Args:
        file: The file with the bytes of its images.
        rows: The images.
        skipped: Its members that are not used.
        digest: SHA-256 of the bytes of the images; empty where length and name of the shard stand for it.
    """

    file: str
    rows: list[Row]
    skipped: tuple[Skipped, ...] = ()
    digest: str = ""


class Shard(Protocol):
    """A part of a data set. It can be pickled."""

    @property
    def name(self) -> str: ...

    def fetch(self, copy: Path) -> ShardIndex:
        """List the images of the shard, after it is copied to the file `copy` unless it is on this machine.

        Raises:
            DataError: The shard is of a kind that is not read.
        """
        ...


@dataclass(frozen=True)
class ShardStore:
    """The shards of a data set.

    Args:
        shards: All shards.
        folder: Where indexes and copies are written.
        kept: Number of shards that stay there; those that were not used for the longest time are removed.
    """

    shards: Sequence[Shard]
    folder: Path
    kept: int

    def index(self, number: int) -> ShardIndex:
        """The index of a shard, whose file is on this machine.

        Raises:
            DataError: The shard cannot be read or copied.
        """
        path = self._path(number, ".json")
        while True:
            self.fetch(number)
            try:
                file, content = map(json.loads, path.read_text(encoding="utf-8").splitlines())
                rows = [Row(*row)._replace(captions=tuple(row[4])) for row in content[0]]
                return ShardIndex(file, rows, tuple(Skipped(*each) for each in content[1]), content[2])
            except FileNotFoundError:  # another process removes it just now
                continue
            except ValueError:  # damaged
                path.unlink(missing_ok=True)

    def fetch(self, number: int) -> None:
        """Write the index of a shard, and copy the shard if it is elsewhere, unless both are there.

        Raises:
            DataError: The shard cannot be read or copied.
        """
        if self._is_here(number):
            return
        shard = self.shards[number]
        with self._locked(number):
            if self._is_here(number):
                return
            for unfinished in self.folder.glob(f".{number:06}.*"):  # of a process that was killed
                unfinished.unlink(missing_ok=True)
            for pause in (*PAUSES, None):
                try:
                    index = shard.fetch(self._path(number, ".data"))
                    lines = json.dumps(index.file), json.dumps(index[1:])
                    write_atomically(self._path(number, ".json"), "\n".join(lines).encode())
                    break
                except DataError:
                    raise
                except Exception as error:  # file systems have their own errors
                    if pause is None:
                        raise DataError(f"{shard.name} cannot be read: {reason_for(error)}") from error
                    time.sleep(pause)
            self._remove_oldest()

    def prefetch(self, numbers: Sequence[int]) -> None:
        """Fetch shards in the background, in this order."""

        def fetch() -> None:
            with suppress(DataError):  # whoever needs the shard reports that it cannot be read
                for number in numbers:
                    self.fetch(number)

        threading.Thread(target=fetch, name="shards", daemon=True).start()

    def _path(self, number: int, suffix: str) -> Path:
        return self.folder / f"{number:06}{suffix}"

    def _is_here(self, number: int) -> bool:
        """Whether a shard is on this machine with its index, which is marked as used now."""
        path = self._path(number, ".json")
        try:
            with path.open(encoding="utf-8") as lines:
                file = json.loads(lines.readline())
            os.utime(path)
        except (FileNotFoundError, ValueError):  # or damaged
            return False
        return Path(file).exists()

    def _remove_oldest(self) -> None:
        used = {}
        for path in self.folder.glob("*.json"):
            with suppress(FileNotFoundError):  # another process removes it
                used[path] = path.stat().st_mtime_ns
        for path in sorted(used, key=used.__getitem__)[: -self.kept]:
            path.unlink(missing_ok=True)
            path.with_suffix(".data").unlink(missing_ok=True)

    @contextmanager
    def _locked(self, number: int) -> Iterator[None]:
        """One thread of all processes of the machine at a time has a shard, and one thread of a process any of them."""
        import fcntl  # here, because Windows lacks it

        self.folder.mkdir(parents=True, exist_ok=True)
        with _mutexes.setdefault(os.getpid(), threading.Lock()), open(self.folder / "lock", "ab") as file:
            fcntl.lockf(file, fcntl.LOCK_EX, 1, number)
            yield
