"""The catalogue: every block, kernel and preset that the installed packages give, and who gave it.

Packages announce a plugin by an entry point of group `ganblocks`; the project's own blocks arrive the same way. Plugins
are imported once, when something is first looked up. A plugin that cannot be imported harms nobody else: the reason is
kept for `ganblocks doctor`. Two blocks with the same family and kind are an error, because nobody could tell which one
a spec means.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from registry import hookspecs
from registry.errors import nearest
from registry.spec import parse_docstring

if TYPE_CHECKING:
    from registry.kernels import Kernel
    from registry.spec import Block, Spec

GROUP = "ganblocks"
LIMIT = "GANBLOCKS_PLUGINS"
HOW_TO_GET = "if another package gives it, install that package (pip install NAME)"
FLOORS = ("blocks", "assemblies")  # this project's own, without which nothing can be built: never limited


class Origin(NamedTuple):
    """Who gave an entry: the plugin's name, its distribution and version."""

    plugin: str
    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}".strip()


class Entry(NamedTuple):
    """A registered block and its origin."""

    block: type[Block]
    origin: Origin

    @property
    def summary(self) -> str:
        return parse_docstring(self.block.__doc__)[0]

    @property
    def paper(self) -> str:
        """The citation that the block's file opens with, if it has one."""
        paragraphs = (sys.modules[self.block.__module__].__doc__ or "").split("\n\n")
        return next((" ".join(text.split()) for text in paragraphs if "http" in text or "arXiv" in text), "")


class DuplicateError(ValueError):
    """Two packages give a block, kernel or preset of the same name."""


class Catalogue:
    """All that is registered. Use the one instance, `registry.catalogue`."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        self._kernels: dict[str, dict[str, tuple[Kernel, Origin]]] = {}
        self._presets: dict[str, tuple[Callable[[], Spec | dict[str, Any]], Origin]] = {}
        self._loaded = False
        self.failures: dict[str, str] = {}
        self.plugins = pluggy.PluginManager(GROUP)
        self.plugins.add_hookspecs(hookspecs)

    def load(self) -> None:
        """Import all installed plugins, once; what fails is noted in `failures`.

        Raises:
            DuplicateError: Two packages give the same family and kind.
        """
        if self._loaded:
            return
        self._loaded = True
        allowed = os.environ.get(LIMIT)
        names = None if allowed is None else {name.strip() for name in allowed.split(",")}
        found = sorted(metadata.entry_points(group=GROUP), key=lambda point: (point.name not in FLOORS, point.name))
        for point in found:
            distribution = point.dist.name if point.dist else point.module
            if names is not None and point.name not in names and not (distribution == GROUP and point.name in FLOORS):
                continue
            origin = Origin(point.name, distribution, point.dist.version if point.dist else "")
            try:
                self.add_plugin(point.load(), origin)
            except DuplicateError:
                self._loaded = False
                raise
            except (Exception, SystemExit) as error:  # whatever a stranger's module does at import is its own failure
                self.failures[f"{point.name} ({origin})"] = f"{type(error).__name__}: {error}"

    def add_plugin(self, plugin: object, origin: Origin | None = None) -> None:
        """Register a plugin (a module or object with hook implementations), at any time; all of it or nothing."""
        if self.plugins.is_registered(plugin):
            return
        origin = origin or _origin_of(getattr(plugin, "__name__", type(plugin).__module__))
        self.plugins.register(plugin, name=f"{origin.plugin} ({origin.package})")
        before = dict(self._entries), {op: dict(given) for op, given in self._kernels.items()}, dict(self._presets)
        others = [other for other in self.plugins.get_plugins() if other is not plugin]
        try:
            for hook, register in (
                ("register_blocks", lambda block: self.register(block, origin)),
                ("register_kernels", lambda kernel: self.register_kernel(kernel, origin)),
                ("register_presets", lambda name, document: self.register_preset(name, document, origin)),
            ):
                self.plugins.subset_hook_caller(hook, others)(register=register)
        except BaseException:
            self._entries, self._kernels, self._presets = before
            self.plugins.unregister(plugin)
            raise

    def remove_plugin(self, plugin: object) -> None:
        """Forget a plugin and everything it gave."""
        name = self.plugins.get_name(plugin)
        self.plugins.unregister(plugin)

        def kept(origin: Origin) -> bool:
            return f"{origin.plugin} ({origin.package})" != name

        self._entries = {key: entry for key, entry in self._entries.items() if kept(entry.origin)}
        self._presets = {key: given for key, given in self._presets.items() if kept(given[1])}
        self._kernels = {op: {k: v for k, v in given.items() if kept(v[1])} for op, given in self._kernels.items()}

    def register(self, block: type[Block], origin: Origin | None = None) -> None:
        """Add one block.

        Raises:
            DuplicateError: Another block has this family and kind.
        """
        if getattr(block, "kind", None) is None:
            raise TypeError(f'{block!r} has no kind: declare it as class {block.__name__}(SomeFamily, kind="...")')
        assert block.kind is not None
        key, entry = (block.family_name, block.kind), Entry(block, origin or _origin_of(block.__module__))
        known = self._entries.get(key)
        if known is not None and known.block is not block:
            raise DuplicateError(
                f"{key[0]} kind {key[1]!r} is given by {known.origin} ({known.block.__module__}) and again by "
                f"{entry.origin} ({block.__module__}); uninstall one of the two packages, or choose by the variable "
                f"{LIMIT}"
            )
        self._entries[key] = known or entry

    def register_kernel(self, kernel: Kernel, origin: Origin | None = None) -> None:
        """Add one kernel to its op."""
        known = self._kernels.setdefault(kernel.op, {}).setdefault(
            kernel.name, (kernel, origin or _origin_of(type(kernel).__module__))
        )
        if known[0] is not kernel:
            raise DuplicateError(
                f"kernel {kernel.name!r} of op {kernel.op} is given by {known[1]} and again by {origin}"
            )

    def register_preset(
        self, name: str, document: Callable[[], Spec | dict[str, Any]], origin: Origin | None = None
    ) -> None:
        """Add one preset under its name."""
        known = self._presets.setdefault(name, (document, origin or _origin_of(document.__module__)))
        if known[0] is not document:
            raise DuplicateError(f"preset {name!r} is given by {known[1]} and again by {origin}")

    def get(self, family: str, kind: str) -> Entry | None:
        self.load()
        return self._entries.get((family, kind))

    def entries(self, family: str | None = None) -> Iterator[Entry]:
        """All registered blocks, by family and kind."""
        self.load()
        for (name, _), entry in sorted(self._entries.items(), key=lambda item: item[0]):
            if family is None or name == family:
                yield entry

    def kernels(self, op: str) -> list[Kernel]:
        """The kernels that plugins gave for an op; the op itself adds its reference kernel."""
        self.load()
        return [kernel for kernel, _ in self._kernels.get(op, {}).values()]

    def presets(self) -> dict[str, Callable[[], Spec | dict[str, Any]]]:
        self.load()
        return {name: document for name, (document, _) in sorted(self._presets.items())}

    def unknown(self, families: list[str], kind: str) -> str:
        """What to say of a kind that nobody gives: the nearest names, and how to get it."""
        valid = [entry.block.kind or "" for family in families for entry in self.entries(family)]
        elsewhere = [entry.block.family_name for entry in self.entries() if entry.block.kind == kind]
        said = f"no {' or '.join(families)} of kind {kind!r} is installed; {nearest(kind, valid)}"
        if elsewhere:  # the right name at the wrong place
            return f"{said} ({kind!r} is a kind of {' and '.join(elsewhere)})"
        failed = (
            f"; a plugin failed to load ({', '.join(self.failures)}), `ganblocks doctor` says why"
            if self.failures
            else ""
        )
        return f"{said}; {HOW_TO_GET}{failed}"


def _origin_of(module: str) -> Origin:
    top = module.partition(".")[0]
    for name in metadata.packages_distributions().get(top, []):
        return Origin(module, name, metadata.version(name))
    return Origin(module, top, "")


catalogue = Catalogue()
