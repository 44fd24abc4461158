"""The ground floor: what a block is, who gives which, how kernels are chosen. Knows no block and imports no torch."""

from registry.catalogue import DuplicateError, Entry, Origin, catalogue
from registry.errors import IncompatibleError, Problem, SpecError, SpecValidationError, incompatible
from registry.hookspecs import Register, RegisterKernel, RegisterPreset, hookimpl
from registry.kernels import Kernel, KernelError, Op, recording, second_order
from registry.slots import Slot
from registry.spec import Block, Spec, build_at, collecting

__all__ = [
    "Block",
    "DuplicateError",
    "Entry",
    "IncompatibleError",
    "Kernel",
    "KernelError",
    "Op",
    "Origin",
    "Problem",
    "Register",
    "RegisterKernel",
    "RegisterPreset",
    "Slot",
    "Spec",
    "SpecError",
    "SpecValidationError",
    "build_at",
    "catalogue",
    "collecting",
    "hookimpl",
    "incompatible",
    "recording",
    "second_order",
]
