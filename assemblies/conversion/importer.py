"""An importer: recognises networks of one layout by the names of their tensors, and converts them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from assemblies.conversion.weight_map import WeightRule
from assemblies.model_file import CheckpointError
from registry import Spec

Names = frozenset[str]


def no_tensor(name: str) -> bool:
    return False


class Conversion(NamedTuple):
    """The translation of one network.

    Args:
        spec: Our network.
        rules: The weight rules of all its tensors.
        tensors: The checkpoint's tensors, including those that the file lacks and the importer adds.
        ignored: Whether a tensor of the checkpoint has no counterpart in our network.
        notes: Remarks for the user, such as assumptions that were made.
        context: A discriminator's context: resolution, image_channels, cond_dim.
    """

    spec: Spec
    rules: Iterable[WeightRule]
    tensors: Mapping[str, Tensor]
    ignored: Callable[[str], bool] = no_tensor
    notes: tuple[str, ...] = ()
    context: Mapping[str, Any] = {}


class Importer(NamedTuple):
    """The importer of one layout.

    Args:
        form: Name of the layout, such as "stylenat generator".
        recognises: Whether tensors of these names are of this layout.
        conversion: The conversion, from the tensors and the options (those of the file, overridden by the user's).
        options: Options that a user may set, with a description each.
        roles: Roles of such a network in a file of several: G and G_ema, or D.
        example: Makes a small checkpoint of this layout for tests: its tensors, and options that the file lacks.
    """

    form: str
    recognises: Callable[[Names], bool]
    conversion: Callable[[Mapping[str, Tensor], Mapping[str, Any]], Conversion]
    options: Mapping[str, str]
    roles: tuple[str, ...] = ("G_ema", "G")
    example: Callable[[], tuple[Mapping[str, Tensor], Mapping[str, Any]]] | None = None


class MissingOptionError(CheckpointError):
    """A file lacks an option that its user has to set.

    Args:
        name: The option.
        why: Why the file lacks it.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"the file does not contain {name} ({why}); set it by --set {name}=VALUE")


def require(args: Mapping[str, Any], name: str, why: str) -> Any:
    """An option that has no default.

    Raises:
        MissingOptionError: It is missing.
    """
    if args.get(name) is None:
        raise MissingOptionError(name, why)
    return args[name]


def count(names: Iterable[str], pattern: str) -> int:
    """The number of names of a pattern such as "layers.{}.weight", with indices 0, 1, ... in its braces."""
    names, number = set(names), 0
    while pattern.format(number) in names:
        number += 1
    return number


def gather(config: Any, wanted: Iterable[str]) -> dict[str, Any]:
    """Options from all sections of a nested configuration; the section with most of the names takes precedence."""
    names = set(wanted)
    sections = sorted(_sections(config), key=lambda section: len(names & set(section)))
    return {name: section[name] for section in sections for name in names & set(section)}


def _sections(config: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(config, Mapping):
        yield config
        for entry in config.values():
            yield from _sections(entry)
