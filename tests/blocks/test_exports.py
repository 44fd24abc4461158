"""`blocks` exports every block under its own name, for `from blocks import HydraNA` and for type checkers."""

from __future__ import annotations

import pytest

import blocks
from registry import catalogue
from registry.catalogue import Entry

OWN = [entry for entry in catalogue.entries() if entry.block.__module__.startswith("blocks.")]


@pytest.mark.parametrize("entry", OWN, ids=lambda entry: entry.block.__name__)
def test_every_block_is_exported(entry: Entry) -> None:
    name, module = entry.block.__name__, entry.block.__module__
    missing = f"add to blocks/__init__.py the line `from {module} import {name}`, and {name!r} to its __all__"
    assert getattr(blocks, name, None) is entry.block, missing
    assert name in blocks.__all__, missing


def test_every_export_exists() -> None:
    assert all(hasattr(blocks, name) for name in blocks.__all__)
    assert len(OWN) > 50
