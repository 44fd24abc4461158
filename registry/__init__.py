"""Blocks and their specs, the catalogue of installed packages, and the choice of kernels. Imports no torch."""

from registry.catalogue import DuplicateError, Entry, Origin, catalogue
from registry.collect import blocks_in
from registry.errors import IncompatibleError, Problem, SpecError, SpecValidationError, incompatible
from registry.hookspecs import (
    CheckpointImporter,
    DataSet,
    Register,
    RegisterCommand,
    RegisterDataSet,
    RegisterImporter,
    RegisterKernel,
    RegisterPreset,
    hookimpl,
)
from registry.kernels import Kernel, KernelError, Op, recording, second_order
from registry.slots import Slot
from registry.spec import Block, Spec, build_at, collecting

__all__ = [
    "Block",
    "CheckpointImporter",
    "DataSet",
    "DuplicateError",
    "Entry",
    "IncompatibleError",
    "Kernel",
    "KernelError",
    "Op",
    "Origin",
    "Problem",
    "Register",
    "RegisterCommand",
    "RegisterDataSet",
    "RegisterImporter",
    "RegisterKernel",
    "RegisterPreset",
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
