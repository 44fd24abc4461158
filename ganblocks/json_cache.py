"""Plain data in JSON files of the cache, so that commands which list or show them import no torch.

A file is valid for one set of installed plugins, one state of their Python files, and what else its data depend on.
Plugins that are loaded in this process are described anew.
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
from registry.catalogue import COMMANDS_GROUP, GROUP, PLUGINS_ENV

MAX_BYTES = 2**24
INFO = (".dist-info", ".egg-info")


def cached(
    name: str,
    describe: Callable[[], dict[str, Any]],
    *,
    plugin: str = "blocks",
    state: Any = None,
    refresh: bool = False,
    keep: Callable[[dict[str, Any]], bool] = bool,
) -> dict[str, Any]:
    """What `describe` returns, from a file if it is valid.

    Args:
        name: Name of the file, without its suffix.
        describe: Returns the data, which JSON can represent.
        plugin: A plugin that `describe` loads; if it is loaded already, no file is read or written.
        state: What the data depend on beside the plugins.
        refresh: Describe, whatever the file holds.
        keep: Whether data are worth a file. Data are never kept while a plugin fails to load.
    """
    if any(origin.plugin == plugin for origin in catalogue.plugins()):
        return describe()
    try:
        path = cache_folder.folder() / f"{name}.json"
    except OSError:
        return describe()
    key = _key(state)
    data = None if refresh else _read(path, key)
    if data is None:
        data = describe()
        if not catalogue.failures and keep(data):
            _write(path, {"key": key, "data": data})
    return data


def _read(path: Path, key: str) -> dict[str, Any] | None:
    """The data in the file; None if there are none that are valid."""
    try:
        content = json.loads(path.read_bytes()) if path.stat().st_size <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("key") != key:
        return None
    data: dict[str, Any] = content["data"]
    return data


def _write(path: Path, content: dict[str, Any]) -> None:
    from registry.spec_file import write_atomically

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, json.dumps(content).encode())
    except OSError:
        return  # without a writable folder, the next command describes again


def _key(state: Any) -> str:
    """A hash of installed distributions, plugins, sizes and times of the plugins' files, and `state`."""
    entry_points = metadata.entry_points()
    points = [
        (group, each.name, each.value) for group in (GROUP, COMMANDS_GROUP) for each in entry_points.select(group=group)
    ]
    packages = {value.partition(":")[0].partition(".")[0] for _, _, value in points} | {"ganblocks", "registry"}
    files = [line for package in sorted(packages) for line in _files(package)]
    content = [sys.version, os.environ.get(PLUGINS_ENV), sorted(points), list(_distributions()), files, state]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _distributions() -> Iterator[str]:
    """Folders of metadata on the path. Their names have the versions; to read them would take longer."""
    for folder in filter(os.path.isdir, sys.path):
        yield from (os.path.join(folder, each) for each in sorted(os.listdir(folder)) if each.endswith(INFO))


def _files(package: str) -> Iterator[tuple[str, int, int]]:
    """The Python files of a package, which is not imported, each with its size and time."""
    spec = importlib.util.find_spec(package)
    roots = list(spec.submodule_search_locations or [spec.origin or ""]) if spec else []
    for root in sorted(roots):
        for path in _files_below(root) if os.path.isdir(root) else filter(os.path.isfile, [root]):
            status = os.stat(path)
            yield path, status.st_size, status.st_mtime_ns


def _files_below(folder: str) -> Iterator[str]:
    for each in sorted(os.scandir(folder), key=lambda each: each.name):
        if each.is_dir():
            yield from _files_below(each.path)
        elif each.name.endswith(".py"):
            yield each.path
