"""Collects the checks of a plugin: of its blocks, kernels, presets, importers and commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from blocks.families import Metric
from ganblocks.errors import UsageError
from ganblocks.testing import PluginCheck
from ganblocks.testing.commands import shows_its_help
from ganblocks.testing.importers import converts_its_example, declares_its_options
from ganblocks.testing.metrics import gives_numbers
from ganblocks.testing.presets import fits_together, trains_one_step
from registry import Origin, catalogue
from registry.errors import nearest
from registry.testing import checks, kernel_checks


class NamedCheck(NamedTuple):
    """One check of a preset, importer or command, whose function takes its name and value."""

    function: Callable[[str, Any], None]
    sort: str
    name: str
    value: Any

    def __call__(self) -> None:
        self.function(self.name, self.value)

    def __str__(self) -> str:
        return f"{self.sort}/{self.name}/{self.function.__name__}"


NAMED_CHECKS: dict[str, tuple[Callable[[str, Any], None], ...]] = {
    "preset": (fits_together, trains_one_step),
    "importer": (declares_its_options, converts_its_example),
    "command": (shows_its_help,),
    "data set": (),
}


def collect(name: str) -> list[PluginCheck]:
    """All checks of an installed plugin; see `ganblocks.testing.plugin_checks`."""
    return [check for origin in origins(name) for check in checks_of(origin)]


def origins(name: str) -> list[Origin]:
    """The plugins of this name, or of the distribution of this name.

    Raises:
        UsageError: There are none, or one of them cannot be imported.
    """
    catalogue.load()
    catalogue.load_commands()
    normalized = name.replace("_", "-").lower()
    for failed, reason in catalogue.failures.items():
        if normalized in failed.replace("_", "-").lower():
            raise UsageError(f"the plugin {failed} cannot be used: {reason}")
    plugins = [each for each in catalogue.plugins() if normalized in {each.plugin.lower(), each.package.lower()}]
    if not plugins:
        valid = sorted({text for each in catalogue.plugins() for text in (each.plugin, each.package)})
        raise UsageError(
            f"no plugin {name!r} is installed; {nearest(name, valid)} (to install the one in a folder: pip install "
            "--editable FOLDER)"
        )
    return plugins


def checks_of(origin: Origin) -> Iterator[PluginCheck]:
    """The checks of a plugin's entries.

    Raises:
        UsageError: A block's family has no harness, or a kernel's op does not exist.
    """
    try:
        for sort, name, value in catalogue.provided_by(origin):
            if sort == "block":
                yield from checks(value)
                if issubclass(value, Metric):
                    yield NamedCheck(gives_numbers, "metric", name, value)
            elif sort == "kernel":
                yield from kernel_checks(value)
            else:
                yield from (NamedCheck(function, sort, name, value) for function in NAMED_CHECKS[sort])
    except LookupError as error:
        raise UsageError(f"{origin}: {error.args[0]}") from None
