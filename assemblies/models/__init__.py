"""The published models, a folder each: architecture, presets, and the importer of published checkpoints.

A folder's `presets.py` lists its presets in `__all__`; a folder's `checkpoint.py` lists its importers in `IMPORTERS`.
Both are collected here, so that a new model or preset needs no other change.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assemblies.conversion.importer import Importer
    from registry import Spec


def presets() -> dict[str, Callable[[], Spec]]:
    """The functions in `__all__` of each folder's `presets.py`, by their names with hyphens."""
    return {
        name.replace("_", "-"): getattr(module, name) for module in modules_named("presets") for name in module.__all__
    }


def importers() -> list[Importer]:
    """The importers in `IMPORTERS` of each folder's `checkpoint.py`."""
    return [importer for module in modules_named("checkpoint") for importer in module.IMPORTERS]


def modules_named(name: str) -> Iterator[ModuleType]:
    """The module of this name of each folder that has one."""
    for folder in pkgutil.iter_modules(__path__, f"{__name__}."):
        if folder.ispkg and find_spec(f"{folder.name}.{name}"):
            yield import_module(f"{folder.name}.{name}")
