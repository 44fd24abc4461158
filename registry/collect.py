"""Finds the blocks that the modules of a package define, so that a new block needs no line in a plugin."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module

from registry.spec import Block


def blocks_in(*packages: str) -> Iterator[type[Block]]:
    """Import every module in these packages and yield the blocks that they define, in the order of the modules' names.

    A block is a subclass of a family with a kind of its own. Modules and folders that begin with an underscore are left
    out.

    Args:
        packages: Names of packages, such as "blocks.attention".
    """
    for package in packages:
        for name in sorted(_modules(package)):
            values = vars(import_module(name)).values()
            yield from (each for each in values if _is_block(each) and each.__module__ == name)


def _modules(package: str) -> Iterator[str]:
    yield package
    for module in pkgutil.iter_modules(import_module(package).__path__, f"{package}."):
        if not module.name.rpartition(".")[2].startswith("_"):
            yield from _modules(module.name) if module.ispkg else [module.name]


def _is_block(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Block) and "kind" in vars(value)
