"""Data sets on other machines: copied into the cache once, then read like local ones.

`--data s3://bucket/shards`, `gs://`, `hf://datasets/user/name`, `https://host/images.zip`: whatever fsspec opens,
https://filesystem-spec.readthedocs.io. Credentials are those that fsspec's file systems find.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fsspec

from ganblocks.errors import DataError
from registry import cache_folder
from registry.spec_file import replacing

URL = re.compile(r"^[a-z][a-z0-9+.-]*://")
CHUNK = 2**22  # bytes


def is_url(source: str) -> bool:
    """Whether a data set lies on another machine."""
    return URL.match(source) is not None


def list_files(url: str) -> tuple[Any, str, dict[str, Mapping[str, Any]]]:
    """The file system of a URL, the path in it, and what is known of the files there; none if nothing is there.

    Raises:
        DataError: There is no such file system, no permission, or no list of the files.
    """
    try:
        system, path = fsspec.core.url_to_fs(url)
        files = system.find(path, detail=True)
        for name, info in files.items():
            if info.get("size") is None:  # web servers tell it only when they are asked for it
                files[name] = info | system.info(name)
    except (ImportError, ValueError) as error:  # ImportError names the package of the file system
        raise DataError(f"--data {url}: {error}") from error
    except Exception as error:  # each file system has its own errors
        raise DataError(f"--data {url} cannot be listed: {type(error).__name__}: {error}") from error
    return system, path, files


def download(url: str, progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """Copy a file, or a folder with all its files, into the cache, unless it is there with the same sizes.

    Args:
        url: Where it is, in the notation of fsspec.
        progress: Called with the number of bytes copied and their total.

    Returns:
        The local file or folder.

    Raises:
        DataError: There is no such file system, no such file, no permission, or not enough space.
    """
    system, path, files = list_files(url)
    sizes = {name: int(info["size"] or 0) for name, info in files.items()}
    if not sizes:
        raise DataError(f"--data {url}: there is no such file or folder, or it is empty")
    root = cache_folder.folder() / "data" / hashlib.sha256(url.encode()).hexdigest()[:16]
    is_file = [*sizes] == [path.rstrip("/")] or [*sizes] == [path]
    base = posixpath.dirname(path) if is_file else path.rstrip("/")
    targets = {name: root / _inside(name, base, url) for name in sizes}
    missing = {name: target for name, target in targets.items() if _size(target) != sizes[name] or not sizes[name]}
    total, done = sum(sizes[name] for name in missing), 0
    root.mkdir(parents=True, exist_ok=True)
    if total > (free := shutil.disk_usage(root).free):
        raise DataError(
            f"--data {url}: {total / 1e9:,.1f} GB have to be copied, and {root} has {free / 1e9:,.1f} GB free; set "
            "GANBLOCKS_CACHE to a larger disk, or have tar shards copied when they are needed: "
            f"--data 'shards?path={url}'"
        )
    for name, target in missing.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(target) as temporary, system.open(name, "rb") as source, open(temporary, "wb") as copy:
                while chunk := source.read(CHUNK):
                    copy.write(chunk)
                    progress(done := done + len(chunk), total)
        except Exception as error:
            raise DataError(f"--data {url}: {name} cannot be copied: {type(error).__name__}: {error}") from error
    return next(iter(targets.values())) if is_file else root


def _inside(name: str, base: str, url: str) -> str:
    """The path of a file below the folder; one that leads outside is refused."""
    inner = posixpath.relpath(name, base) if base else name.lstrip("/")
    if inner.startswith("..") or posixpath.isabs(inner):
        raise DataError(f"--data {url}: {name} is not inside of {base}")
    return inner


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
