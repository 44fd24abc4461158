"""Shards on this machine: their indexes, and copies of those from elsewhere, in a folder of bounded size.

All processes of a machine share the folder. One of them copies a shard while the others that need it wait.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from ganblocks.data.captions import Captions
from ganblocks.data.skipped import Skipped, reason_for
from ganblocks.errors import DataError
from registry.cache_folder import CACHE_ENV
from registry.spec_file import write_atomically

PAUSES = (1.0, 10.0, 60.0)  # seconds before a copy that failed is tried again
IN_USE = 30.0  # seconds since the last use within which a shard stays, whatever the number of shards
ABANDONED = 3600.0  # seconds after which an unfinished file is that of a process that was killed
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


class Stopped(Exception):
    """A shard was not copied to its end, because it is not needed any more."""


class Shard(Protocol):
    """A part of a data set. It can be pickled."""

    @property
    def name(self) -> str: ...

    def fetch(self, copy: Path, stopped: Callable[[], bool]) -> ShardIndex:
        """List the images of the shard, after it is copied to the file `copy` unless it is on this machine.

        Raises:
            Stopped: `stopped()` while it was copied.
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
        for pause in (*PAUSES, None):
            try:
                return self.try_to_fetch(number)
            except DataError:
                raise
            except Exception as error:  # file systems have their own errors
                if pause is None or isinstance(error, FileNotFoundError):
                    raise DataError(f"{self.shards[number].name} cannot be read: {reason_for(error)}") from error
                time.sleep(pause)

    def try_to_fetch(self, number: int, stopped: Callable[[], bool] = lambda: False) -> None:
        """As `fetch`, once.

        Raises:
            Exception: What the file system of the shard raises.
            Stopped: `stopped()` while the shard was read.
            DataError: The shard is of a kind that is not read, or the cache cannot be written.
        """
        if self._is_here(number):
            return
        with self._locked(number):
            if self._is_here(number):
                return
            for unfinished in self.folder.glob(f".{number:06}.*"):  # of a process that was killed
                unfinished.unlink(missing_ok=True)
            try:
                index = self.shards[number].fetch(self._path(number, ".data"), stopped)
                lines = json.dumps(index.file), json.dumps(index[1:])
                write_atomically(self._path(number, ".json"), "\n".join(lines).encode())
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise DataError(
                    f"{self.shards[number].name} cannot be copied to {self.folder}: {error.strerror}; set "
                    f"{CACHE_ENV} to a larger disk, or shuffle fewer shards together"
                ) from error
            self._remove_oldest()

    def mark(self, number: int) -> None:
        """Mark a shard as used now."""
        with suppress(OSError):  # another process has removed it, or another user has written it
            os.utime(self._path(number, ".json"))

    def _path(self, number: int, suffix: str) -> Path:
        return self.folder / f"{number:06}{suffix}"

    def _is_here(self, number: int) -> bool:
        """Whether a shard is on this machine with its index, which is marked as used now."""
        path = self._path(number, ".json")
        try:
            with path.open(encoding="utf-8") as lines:
                file = json.loads(lines.readline())
            self.mark(number)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # or damaged
            return False
        return Path(file).exists()

    def _remove_oldest(self) -> None:
        """Remove shards that are not kept, unless another run uses them, and what killed processes left behind."""
        seconds = {}
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another process removes it
                seconds[path] = time.time() - path.stat().st_mtime
        indexes = [path for path in seconds if path.suffix == ".json"]
        for path in sorted(indexes, key=seconds.__getitem__)[self.kept :]:
            if seconds[path] > IN_USE:
                path.unlink(missing_ok=True)
                path.with_suffix(".data").unlink(missing_ok=True)
        for path in seconds:
            if path.name.startswith(".") and seconds[path] > ABANDONED:
                path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, number: int) -> Iterator[None]:
        """One thread of all processes of the machine at a time has a shard, and one thread of a process any of them."""
        import fcntl  # here, because Windows lacks it

        with _mutexes.setdefault(os.getpid(), threading.Lock()), ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(open(self.folder / "lock", "ab"))
                fcntl.lockf(file, fcntl.LOCK_EX, 1, number)
            except OSError as error:
                raise DataError(
                    f"{self.folder}: indexes of shards cannot be written there ({error.strerror}); set {CACHE_ENV} to "
                    "another folder"
                ) from error
            yield
