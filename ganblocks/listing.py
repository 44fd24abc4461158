"""The catalogue as plain data, kept in a file of the cache, so that commands that list it import no torch.

The file is valid for one set of installed plugins and one state of their Python files. A catalogue that is loaded in
this process is described anew.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from registry import cache_folder, catalogue
from registry.catalogue import GROUP, PLUGINS_ENV
from registry.spec_file import write_atomically

MAX_BYTES = 2**24


def cached(describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `describe` returns of the catalogue, from the file if it is valid."""
    if any(origin.plugin == "blocks" for origin in catalogue.plugins()):
        return describe()
    try:
        path = cache_folder.folder() / "catalogue.json"
    except OSError:
        return describe()
    key = _key()
    if (data := _read(path, key)) is None:
        data = describe()
        if not catalogue.failures:
            _write(path, {"key": key, "catalogue": data})
    return data


def _read(path: Path, key: str) -> dict[str, Any] | None:
    """The data in the file; None if there are none that are valid."""
    try:
        content = json.loads(path.read_bytes()) if path.stat().st_size <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("key") != key:
        return None
    data: dict[str, Any] = content["catalogue"]
    return data


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, json.dumps(content).encode())
    except OSError:
        return  # without a writable folder, the next command describes the catalogue again


def _key() -> str:
    """A hash of what the catalogue depends on: plugins, their versions, and sizes and times of their files."""
    points = sorted(metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    plugins = [(each.name, each.value, each.dist.name if each.dist else "", _version(each)) for each in points]
    packages = {each.value.partition(":")[0].partition(".")[0] for each in points} | {"registry"}
    files = [line for package in sorted(packages) for line in _files(package)]
    state = [sys.version, os.environ.get(PLUGINS_ENV), plugins, files]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def _version(point: metadata.EntryPoint) -> str:
    return point.dist.version if point.dist else ""


def _files(package: str) -> Iterator[tuple[str, int, int]]:
    """The Python files of a package, which is not imported, each with its size and time."""
    spec = importlib.util.find_spec(package)
    roots = list(spec.submodule_search_locations or [spec.origin or ""]) if spec else []
    for root in roots:
        paths = sorted(Path(root).rglob("*.py")) if os.path.isdir(root) else [Path(root)]
        for path in paths:
            if path.is_file():
                status = path.stat()
                yield str(path), status.st_size, status.st_mtime_ns
