"""The hooks of a plugin. A plugin is a module or object that implements any of them with `@hookimpl`.

A package announces its plugins by entry points in `pyproject.toml`. Blocks, kernels, presets, importers and data
sets:

    [project.entry-points.ganblocks]
    spiral = "spiral_attention.plugin"

Commands of the command line have a group of their own, so that `ganblocks --help` does not import torch. A module named
there implements `register_commands` and imports torch only inside its commands:

    [project.entry-points."ganblocks.commands"]
    spiral = "spiral_attention.commands"
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from registry.kernels import Kernel
    from registry.spec import Block, Spec

hookspec = pluggy.HookspecMarker("ganblocks")
hookimpl = pluggy.HookimplMarker("ganblocks")


class CheckpointImporter(Protocol):
    """Converts one layout of published checkpoints; `assemblies.conversion.importer.Importer` is such a class."""

    @property
    def form(self) -> str: ...
    @property
    def recognises(self) -> Callable[[frozenset[str]], bool]: ...
    @property
    def conversion(self) -> Callable[[Mapping[str, Any], Mapping[str, Any]], Any]: ...
    @property
    def options(self) -> Mapping[str, str]: ...
    @property
    def roles(self) -> tuple[str, ...]: ...


class Location(Protocol):
    """A file of a data set, also in a store that a plugin reads. It can be pickled; its string is a unique name."""

    @property
    def inner(self) -> str:
        """Path inside the data set, with `/`."""
        ...

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def open(self) -> IO[bytes]: ...


class ShardImage(NamedTuple):
    """An image of a shard: a unique name in it, the image file, its class from 0 or by name, and its captions."""

    name: str
    data: bytes
    label: int | str | None = None
    captions: tuple[str, ...] = ()


class DataShard(Protocol):
    """A part of a data set that can only be read from its beginning on. It can be pickled."""

    @property
    def name(self) -> str: ...
    def read(self) -> Iterator[ShardImage]:
        """The images, at each call the same."""
        ...


class DataSet(NamedTuple):
    """A data set that a plugin has prepared: a path, or images that the plugin reads one by one or in shards.

    Args:
        path: A folder or an archive that `--data` accepts, with its classes and captions; where the plugin reads the
            images itself, the store.
        license: Licence and attribution in one line, for the log and the model card; empty if there is none.
        images: The images, in a fixed order; None for those of `path`.
        classes: The class of each image, from 0; None without classes.
        class_names: Names of the classes.
        captions: The captions of each image; None without captions.
        shards: The shards, which have the classes and captions of their images; None for single images.
        version: A text that changes when the content of the shards does.
        together: Shards whose images are shuffled together; None for the default.
    """

    path: Path
    license: str = ""
    images: Sequence[Location] | None = None
    classes: Sequence[int] | None = None
    class_names: tuple[str, ...] = ()
    captions: Sequence[tuple[str, ...]] | None = None
    shards: Sequence[DataShard] | None = None
    version: str = ""
    together: int | None = None


class PrepareDataSet(Protocol):
    """Prepares a named data set, which `--data NAME?option=value` opens, the first time in a folder of the cache."""

    def __call__(self, resolution: int, image_channels: int, options: Mapping[str, str], /) -> DataSet:
        """The data set.

        Args:
            resolution: Longer side of the images in pixels; the reader resizes what differs.
            image_channels: 1 for grey, 3 for RGB, 4 for RGBA.
            options: The options after `?`.

        Raises:
            ValueError: An option is unknown or has an invalid value.
            ImportError: A package is missing; the message has the pip command.
            OSError: A file cannot be written.
        """
        ...


class Register(Protocol):
    """Adds a block class to the catalogue."""

    def __call__(self, block: type[Block], /) -> None: ...


class RegisterKernel(Protocol):
    """Adds a kernel to the op that its attribute `op` names."""

    def __call__(self, kernel: Kernel, /) -> None: ...


class RegisterPreset(Protocol):
    """Adds a preset: its name, and a function that returns its document."""

    def __call__(self, name: str, document: Callable[[], Spec | dict[str, Any]], /) -> None: ...


class RegisterImporter(Protocol):
    """Adds an importer of published checkpoints."""

    def __call__(self, importer: CheckpointImporter, /) -> None: ...


class RegisterDataSet(Protocol):
    """Adds a named data set."""

    def __call__(self, name: str, prepare: PrepareDataSet, /) -> None: ...


class RegisterCommand(Protocol):
    """Adds a command: its name, and a function, or a `typer.Typer` for a group of commands."""

    def __call__(self, name: str, command: Callable[..., Any], /) -> None: ...


@hookspec
def register_blocks(register: Register) -> None:
    """Call `register(SomeBlock)` for each block of your package."""


@hookspec
def register_kernels(register: RegisterKernel) -> None:
    """Call `register(kernel)` for each kernel of your package."""


@hookspec
def register_presets(register: RegisterPreset) -> None:
    """Call `register(name, function)` for each preset. The function runs when the preset is used."""


@hookspec
def register_importers(register: RegisterImporter) -> None:
    """Call `register(importer)` for each importer. The first that recognises a checkpoint converts it."""


@hookspec
def register_data_sets(register: RegisterDataSet) -> None:
    """Call `register(name, prepare)` for each named data set. `prepare` runs when the data set is opened."""


@hookspec
def register_commands(register: RegisterCommand) -> None:
    """Call `register(name, function)` or `register(name, typer_app)` for each command, in the order of `--help`."""
