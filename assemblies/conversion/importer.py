"""What an importer is: it knows one form of network by its tensors' names, and says how ours is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from assemblies.conversion.weight_map import WeightRule
from assemblies.model_file import CheckpointError
from registry import Spec

Names = frozenset[str]


def nothing(name: str) -> bool:
    return False


class Conversion(NamedTuple):
    """How a network becomes ours.

    Args:
        spec: Ours.
        moves: Where its tensors come from.
        tensors: Theirs, perhaps with some that the file lacks and the importer knows.
        ignored: Says of a name of theirs that nothing here corresponds to it.
        notes: What a user has to know, such as what was guessed.
        wiring: What a discriminator's neighbours fix: resolution, image_channels, cond_dim.
    """

    spec: Spec
    rules: Iterable[WeightRule]
    tensors: Mapping[str, Tensor]
    ignored: Callable[[str], bool] = nothing
    notes: tuple[str, ...] = ()
    context: Mapping[str, Any] = {}


class Importer(NamedTuple):
    """One form of network.

    Args:
        form: Its name, such as "stylenat generator".
        recognises: Whether tensors of these names are of this form.
        recipe: From the tensors and the options (of the file, overridden by the user's) to what becomes of them.
        options: What a user may set, by name, with a description each.
        roles: What such a network may be in a file of several: G and G_ema, or D.
    """

    form: str
    recognises: Callable[[Names], bool]
    conversion: Callable[[Mapping[str, Tensor], Mapping[str, Any]], Conversion]
    options: Mapping[str, str]
    roles: tuple[str, ...] = ("G_ema", "G")


MEAN_STYLE = "the file tracks no mean style, which truncation draws to: it was estimated from the mapping"


class Lacking(CheckpointError):
    """A file that does not say something, which only its user can know."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"the file does not say {name} ({why}): give it as --set {name}=VALUE")


def require(args: Mapping[str, Any], name: str, why: str) -> Any:
    """An option that has to be known.

    Raises:
        Lacking: It is not.
    """
    if args.get(name) is None:
        raise Lacking(name, why)
    return args[name]


def with_mean_style(rules: Iterable[WeightRule], names: Iterable[str], make: Callable[..., Tensor]) -> list[WeightRule]:
    """The moves, but the mean style, which truncation draws to and the file does not track, is made of the mapping's
    tensors.
    """
    return [*(each for each in rules if each.ours != "mapping.w_avg"), WeightRule("mapping.w_avg", tuple(names), make)]


def count(names: Iterable[str], pattern: str) -> int:
    """How many numbers from 0 on stand at the braces of a pattern such as "layers.{}.weight"."""
    names, number = set(names), 0
    while pattern.format(number) in names:
        number += 1
    return number


def gather(config: Any, wanted: Iterable[str]) -> dict[str, Any]:
    """Options by name from a nested configuration, where two sections tell one from the section that tells more."""
    names = set(wanted)
    sections = sorted(_sections(config), key=lambda section: len(names & set(section)))
    return {name: section[name] for section in sections for name in names & set(section)}


def _sections(config: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(config, Mapping):
        yield config
        for inside in config.values():
            yield from _sections(inside)
