"""Blocks and their specs, the catalogue of installed packages, and the choice of kernels. Imports no torch.

What needs pydantic is imported when it is first used, so that `ganblocks --help` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from registry.catalogue import DuplicateError, Entry, Origin, catalogue
from registry.errors import IncompatibleError, Problem, SpecError, SpecValidationError, incompatible
from registry.hookspecs import (
    CheckpointImporter,
    DataSet,
    DataShard,
    Location,
    Register,
    RegisterCommand,
    RegisterDataSet,
    RegisterImporter,
    RegisterKernel,
    RegisterPreset,
    ShardImage,
    hookimpl,
)

if TYPE_CHECKING:
    from registry.collect import blocks_in
    from registry.kernels import Kernel, KernelError, Op, recording, second_order
    from registry.messages import DataSetOptions
    from registry.slots import Slot
    from registry.spec import Block, Spec, build_at, collecting

LAZY = {
    **dict.fromkeys(("blocks_in",), "registry.collect"),
    **dict.fromkeys(("DataSetOptions",), "registry.messages"),
    **dict.fromkeys(("Kernel", "KernelError", "Op", "recording", "second_order"), "registry.kernels"),
    **dict.fromkeys(("Slot",), "registry.slots"),
    **dict.fromkeys(("Block", "Spec", "build_at", "collecting"), "registry.spec"),
}

__all__ = [
    "Block",
    "CheckpointImporter",
    "DataSet",
    "DataSetOptions",
    "DataShard",
    "DuplicateError",
    "Entry",
    "IncompatibleError",
    "Kernel",
    "KernelError",
    "Location",
    "Op",
    "Origin",
    "Problem",
    "Register",
    "RegisterCommand",
    "RegisterDataSet",
    "RegisterImporter",
    "RegisterKernel",
    "RegisterPreset",
    "ShardImage",
    "Slot",
    "Spec",
    "SpecError",
    "SpecValidationError",
    "blocks_in",
    "build_at",
    "catalogue",
    "collecting",
    "hookimpl",
    "incompatible",
    "recording",
    "second_order",
]


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(LAZY[name]), name)
    return value
