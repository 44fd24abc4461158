"""What a plugin may give: blocks, kernels and presets. A plugin implements any of these with `@hookimpl`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.kernels import Kernel
    from registry.spec import Block, Spec

hookspec = pluggy.HookspecMarker("ganblocks")
hookimpl = pluggy.HookimplMarker("ganblocks")


class Register(Protocol):
    """Takes one block class."""

    def __call__(self, block: type[Block], /) -> None: ...


class RegisterKernel(Protocol):
    """Takes one kernel; it names the op it belongs to."""

    def __call__(self, kernel: Kernel, /) -> None: ...


class RegisterPreset(Protocol):
    """Takes a preset's name and a function that returns its document."""

    def __call__(self, name: str, document: Callable[[], Spec | dict[str, Any]], /) -> None: ...


@hookspec
def register_blocks(register: Register) -> None:
    """Call `register(SomeBlock)` for each block of your package."""


@hookspec
def register_kernels(register: RegisterKernel) -> None:
    """Call `register(kernel)` for each kernel of your package."""


@hookspec
def register_presets(register: RegisterPreset) -> None:
    """Call `register(name, function)` for each preset; the function runs when the preset is asked for."""
