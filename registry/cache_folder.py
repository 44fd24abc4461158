"""The folder of measurements and compiled code: GANBLOCKS_CACHE, or ganblocks in XDG_CACHE_HOME or ~/.cache.

Code is loaded from it only if nobody but this user (or root) could have written it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

CACHE_ENV = "GANBLOCKS_CACHE"


def folder() -> Path:
    """The folder of the cache, which need not exist.

    Raises:
        OSError: No variable names it, and there is no home folder.
    """
    if path := os.environ.get(CACHE_ENV):
        return Path(path)
    caches = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(caches):  # the XDG specification ignores relative paths
        return Path(caches) / "ganblocks"
    home = os.environ["HOME"] if "HOME" in os.environ else os.path.expanduser("~")
    if not os.path.isabs(home):
        raise FileNotFoundError(f"there is no home folder (HOME is {home!r}); set {CACHE_ENV} to a folder")
    return Path(home) / ".cache" / "ganblocks"


def why_untrusted(path: Path) -> str | None:
    """How somebody else could have written a file or folder; None if only this user and root could.

    Raises:
        OSError: It does not exist.
    """
    status = path.stat()
    if status.st_uid not in (os.getuid(), 0):
        return f"{path} belongs to another user (uid {status.st_uid})"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} can be written by other users (mode {stat.S_IMODE(status.st_mode):o})"
    for parent in path.resolve().parents:
        if (mode := parent.stat().st_mode) & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"{path} can be replaced by other users, who can write {parent} (mode {stat.S_IMODE(mode):o})"
    return None
