"""One training per run folder: a lock that the system releases when its process ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ganblocks.errors import RunError

IN_USE = (errno.EACCES, errno.EAGAIN)
_held: set[Path] = set()  # the system's lock does not exclude a second training of the same process


@contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`, which names host and process. It is removed at the end.

    Raises:
        RunError: Another training holds it.
    """
    path = path.resolve()
    if path in _held:
        raise _in_use(path, _this_process())
    handle = _acquire(path)
    _held.add(path)
    try:
        yield
    finally:
        _held.discard(path)
        path.unlink(missing_ok=True)
        os.close(handle)


def _acquire(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(handle, path)
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):  # its last holder may have removed it
                os.ftruncate(handle, 0)
                os.pwrite(handle, json.dumps(_this_process()).encode(), 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    """Lock the file; on a file system without locks, trust what the file says of its holder."""
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # worker processes do not inherit it, as they would flock
    except OSError as error:
        holder = _read(handle)
        if error.errno in IN_USE or _may_run(holder):
            raise _in_use(path, holder) from None


def _read(handle: int) -> dict[str, Any]:
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _may_run(holder: dict[str, Any]) -> bool:
    """Whether a holder may still run; of another host's processes nothing is known."""
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
        return bool(holder)
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _this_process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _in_use(path: Path, holder: dict[str, Any]) -> RunError:
    process = f"process {holder.get('pid', '(unknown)')} on {holder.get('host', '(unknown)')}"
    return RunError(
        f"{path.parent}: {process} is training in this folder; wait for it or stop it, or choose another --out. "
        f"If it does not run any more, delete {path}"
    )
