"""Registers every block of the family folders, so that a new block is one file and nothing else.

`common`, `families` and `ops` hold no blocks.
"""

from __future__ import annotations

import pkgutil

import blocks
from registry import Register, blocks_in, hookimpl

WITHOUT_BLOCKS = {"blocks.common", "blocks.families", "blocks.ops"}


@hookimpl
def register_blocks(register: Register) -> None:
    folders = (module.name for module in pkgutil.iter_modules(blocks.__path__, "blocks.") if module.ispkg)
    for block in blocks_in(*(folder for folder in folders if folder not in WITHOUT_BLOCKS)):
        register(block)
