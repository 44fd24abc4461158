"""The catalogue: the blocks, kernels, presets, importers, data sets and commands of all installed packages.

Packages announce plugins by entry points (see `registry.hookspecs`); this project's own plugins are announced the same
way. Plugins are imported once, at the first look-up. An import error in one plugin does not affect the others:
`failures` keeps the reason for `ganblocks doctor`.

If two packages provide a name, both entries are found by the package's name in front, as in `acme-blocks/spiral`. The
name alone stays that of this project's entry; between two other packages it is an error. `conflicts` lists them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pluggy

from registry import hookspecs
from registry.text import excerpt, parse_docstring

if TYPE_CHECKING:
    from registry.hookspecs import CheckpointImporter, PrepareDataSet
    from registry.kernels import Kernel
    from registry.spec import Block, Spec

    Document: TypeAlias = Callable[[], Spec | dict[str, Any]]

PROJECT = "ganblocks"
GROUP = "ganblocks"
COMMANDS_GROUP = "ganblocks.commands"
PLUGINS_ENV = "GANBLOCKS_PLUGINS"
REQUIRED = ("blocks", "assemblies", "metrics", "cli")  # plugins of this project that PLUGINS_ENV does not exclude


class Origin(NamedTuple):
    """Where an entry comes from: the plugin's name, its distribution and the distribution's version."""

    plugin: str
    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}".strip()


class Entry(NamedTuple):
    """A registered block, its origin, and the kind by which documents name it."""

    block: type[Block]
    origin: Origin
    kind: str

    @property
    def summary(self) -> str:
        """The first line of the block's docstring."""
        return parse_docstring(self.block.__doc__)[0]

    @property
    def paper(self) -> str:
        """The citation in the docstring of the block's module; empty if there is none."""
        paragraphs = (sys.modules[self.block.__module__].__doc__ or "").split("\n\n")
        return next((" ".join(text.split()) for text in paragraphs if "http" in text or "arXiv" in text), "")


class DuplicateError(ValueError):
    """Two packages provide an entry of the same name."""


class _Item(NamedTuple):
    value: Any
    origin: Origin


class Catalogue:
    """All entries. Use the one instance, `registry.catalogue`."""

    def __init__(self) -> None:
        self._items: dict[tuple[str, ...], _Item] = {}  # by sort ("block", "kernel", ...) and name
        self._plugins: list[tuple[object, Origin]] = []
        self._loaded: set[str] = set()
        self._hooks = pluggy.PluginManager(PROJECT)
        self._hooks.add_hookspecs(hookspecs)
        self._ambiguous: dict[tuple[str, ...], str] = {}  # names of two packages, with the error message
        self.failures: dict[str, str] = {}
        self.conflicts: dict[str, str] = {}  # by entry: why its name has its package in front

    def load(self) -> None:
        """Import the installed plugins of blocks, kernels, presets, importers and data sets, once.

        A plugin that cannot be imported is noted in `failures`, and names of two packages in `conflicts`.
        """
        self._load(GROUP)

    def load_commands(self) -> None:
        """Import the installed plugins of commands, once; the others, and so torch, are not imported."""
        self._load(COMMANDS_GROUP)

    def _load(self, group: str) -> None:
        if group in self._loaded:
            return
        self._loaded.add(group)
        limit = os.environ.get(PLUGINS_ENV)
        names = None if limit is None else {name.strip() for name in limit.split(",")}
        for point in sorted(metadata.entry_points(group=group), key=lambda point: (not _required(point), point.name)):
            if names is not None and point.name not in names and not _required(point):
                continue
            origin = Origin(point.name, *((point.dist.name, point.dist.version) if point.dist else (point.module, "")))
            try:
                self.add_plugin(point.load(), origin)
            except (Exception, SystemExit) as error:  # any error of another package's code
                self.failures[f"{point.name} ({origin})"] = f"{type(error).__name__}: {error}"

    def add_plugin(self, plugin: object, origin: Origin | None = None) -> None:
        """Register all entries of a plugin (a module or object with hook implementations), or none on an error.

        Raises:
            DuplicateError: The plugin provides two entries of one name.
            TypeError: It has no hook, or registers an object of another type.
        """
        if self._hooks.is_registered(plugin):
            return
        origin = origin or _origin_of(getattr(plugin, "__name__", type(plugin).__module__))
        self._hooks.register(plugin)
        before = dict(self._items), dict(self._ambiguous), dict(self.conflicts)
        others = [other for other in self._hooks.get_plugins() if other is not plugin]
        try:
            self._hooks.check_pending()  # refuses a misspelt hook
            if not self._hooks.get_hookcallers(plugin):
                raise TypeError(f"{origin.plugin} has no function with @hookimpl, such as register_blocks")
            for hook, register in (
                ("register_blocks", lambda block: self.register(block, origin)),
                ("register_kernels", lambda kernel: self.register_kernel(kernel, origin)),
                ("register_presets", lambda name, document: self.register_preset(name, document, origin)),
                ("register_importers", lambda importer: self.register_importer(importer, origin)),
                ("register_data_sets", lambda name, prepare: self.register_data_set(name, prepare, origin)),
                ("register_commands", lambda name, command: self.register_command(name, command, origin)),
            ):
                self._hooks.subset_hook_caller(hook, others)(register=register)
        except BaseException:
            self._items, self._ambiguous, self.conflicts = before
            self._hooks.unregister(plugin)
            raise
        self._plugins.append((plugin, origin))

    def remove_plugin(self, plugin: object) -> None:
        """Remove a plugin and all its entries."""
        self._hooks.unregister(plugin)
        origins = [origin for each, origin in self._plugins if each is plugin]
        self._plugins = [(each, origin) for each, origin in self._plugins if each is not plugin]
        self._items = {
            key: item for key, item in self._items.items() if not any(item.origin is each for each in origins)
        }
        for key in list(self._ambiguous):
            both = [each for each in self._items if each[:-1] == key[:-1] and each[-1].partition("/")[2] == key[-1]]
            if len(both) < 2:
                del self._ambiguous[key]
                for each in both:
                    self._items[key] = self._items.pop(each)

    def register(self, block: type[Block], origin: Origin | None = None) -> None:
        """Add a block.

        Raises:
            DuplicateError: Another block of this package has this family and kind.
            TypeError: The class has no kind.
        """
        if (kind := getattr(block, "kind", None)) is None:
            raise TypeError(f'{block!r} has no kind: declare it as class {block.__name__}(SomeFamily, kind="...")')
        self._add(("block", block.family_name, kind), f"{block.family_name} kind {kind!r}", block, origin)

    def register_kernel(self, kernel: Kernel, origin: Origin | None = None) -> None:
        """Add a kernel to its op."""
        self._add(("kernel", kernel.op, kernel.name), f"kernel {kernel.name!r} of op {kernel.op}", kernel, origin)

    def register_preset(self, name: str, document: Document, origin: Origin | None = None) -> None:
        """Add a preset."""
        self._add(("preset", name), f"preset {name!r}", document, origin)

    def register_importer(self, importer: CheckpointImporter, origin: Origin | None = None) -> None:
        """Add an importer of published checkpoints."""
        self._add(("importer", importer.form), f"importer {importer.form!r}", importer, origin)

    def register_data_set(self, name: str, prepare: PrepareDataSet, origin: Origin | None = None) -> None:
        """Add a named data set."""
        self._add(("data set", name), f"data set {name!r}", prepare, origin)

    def register_command(self, name: str, command: Callable[..., Any], origin: Origin | None = None) -> None:
        """Add a command of the command line."""
        self._add(("command", name), f"command {name!r}", command, origin)

    def _add(self, key: tuple[str, ...], name: str, value: Any, origin: Origin | None) -> None:
        expected = "class" if key[0] == "block" else "instance" if key[0] in ("kernel", "importer") else "function"
        if isinstance(value, type) != (expected == "class") or (expected == "function" and not callable(value)):
            raise TypeError(f"{name} should be registered as {expected}, not as {excerpt(repr(value))}")
        module = (value.conversion if key[0] == "importer" else value).__module__
        origin = origin or _origin_of(module)
        if key not in self._ambiguous:
            item = self._items.setdefault(key, _Item(value, origin))
            if item.value is value:
                return
            if item.origin.package == origin.package:
                raise DuplicateError(f"{name} is provided twice by {origin} ({module}); give one another name")
            both = [f"{each.package}/{key[-1]}" for each in (item.origin, origin)]
            fact = f"{name} is provided by {item.origin} and by {origin}"
            uninstall = f"uninstall one: pip uninstall {origin.package}"
            if item.origin.package == PROJECT:
                self.conflicts[name] = (
                    f"{fact}; {key[-1]} is that of {PROJECT}, and {both[1]} the other; or {uninstall}"
                )
            else:
                self.conflicts[name] = self._ambiguous[key] = f"{fact}; write {both[0]} or {both[1]}, or {uninstall}"
                self._put_namespaced(key, self._items.pop(key))
        self._put_namespaced(key, _Item(value, origin))

    def _put_namespaced(self, key: tuple[str, ...], item: _Item) -> None:
        name = f"{item.origin.package}/{key[-1]}"
        self._items[(*key[:-1], name)] = item
        if key[0] == "kernel":
            item.value.name = name  # kernels are selected by this attribute

    def get(self, family: str, kind: str) -> Entry | None:
        """The block of this family and kind, if there is one.

        Raises:
            DuplicateError: Two packages have one.
        """
        self.load()
        if message := self._ambiguous.get(("block", family, kind)):
            raise DuplicateError(message)
        item = self._items.get(("block", family, kind))
        return None if item is None else Entry(*item, kind)

    def entries(self, family: str | None = None) -> Iterator[Entry]:
        """All blocks, or those of a family, sorted by family and kind."""
        self.load()
        for (sort, name, *rest), item in sorted(self._items.items(), key=lambda pair: pair[0]):
            if sort == "block" and family in (None, name):
                yield Entry(*item, rest[-1])

    def kernels(self, op: str) -> list[Kernel]:
        """The kernels that plugins add to an op; the op itself has its own."""
        self.load()
        return [item.value for key, item in self._items.items() if key[:2] == ("kernel", op)]

    def presets(self) -> dict[str, Document]:
        """The presets by name, sorted."""
        self.load()
        return {key[1]: item.value for key, item in sorted(self._items.items()) if key[0] == "preset"}

    def importers(self) -> list[CheckpointImporter]:
        """The importers in the order of registration: this project's own first."""
        self.load()
        return [item.value for key, item in self._items.items() if key[0] == "importer"]

    def data_sets(self) -> dict[str, PrepareDataSet]:
        """The named data sets, sorted."""
        self.load()
        return {key[1]: item.value for key, item in sorted(self._items.items()) if key[0] == "data set"}

    def commands(self) -> dict[str, Callable[..., Any]]:
        """The commands by name in the order of registration: this project's own first."""
        self.load_commands()
        return {key[1]: item.value for key, item in self._items.items() if key[0] == "command"}

    def plugins(self) -> list[Origin]:
        """The plugins that have been loaded."""
        return [origin for _, origin in self._plugins]

    def provided_by(self, origin: Origin) -> Iterator[tuple[str, str, Any]]:
        """What a plugin has registered: sort ("block", "kernel", "preset", "importer" or "command"), name and value."""
        yield from ((key[0], key[-1], item.value) for key, item in self._items.items() if item.origin == origin)

    def origin(self, sort: str, name: str) -> Origin:
        """Where an entry comes from, such as the data set of a name."""
        return self._items[(sort, name)].origin

    def failed(self) -> str:
        """The end of a message about an unknown name: the plugins that failed to load, one of which may provide it."""
        reasons = ", ".join(f"{plugin}: {excerpt(reason, 200)}" for plugin, reason in self.failures.items())
        return f"; plugins that failed to load (details: `ganblocks doctor`): {reasons}" if reasons else ""


def _required(point: metadata.EntryPoint) -> bool:
    return point.name in REQUIRED and point.dist is not None and point.dist.name == PROJECT


def _origin_of(module: str) -> Origin:
    top = module.partition(".")[0]
    for name in metadata.packages_distributions().get(top, []):
        return Origin(module, name, metadata.version(name))
    return Origin(module, top, "")


catalogue = Catalogue()
