"""Reads the document of a model or training, from a file, a preset's name or plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from assemblies.discriminator import Discriminator
from assemblies.document_paths import with_settings
from assemblies.gan import GAN
from assemblies.generator import Generator
from assemblies.multi_stage import MultiStage
from blocks.families import Schedule
from registry import Block, Problem, Spec, SpecValidationError, catalogue, spec_file
from registry.errors import nearest
from registry.messages import validation_error

FAMILIES: tuple[type[Block], ...] = (GAN, MultiStage, Generator, Discriminator)


def read(source: str | Path, *families: type[Block], settings: Sequence[str] = ()) -> Spec:
    """The document in a YAML or JSON file, or the preset of that name.

    Args:
        source: A path, or the name of a preset.
        families: Families that the document may belong to; by default gan, multi-stage, generator and discriminator.
        settings: Changes of the document, each `path=value`, such as "generator.synthesis.3.dim=64".

    Raises:
        SpecValidationError: The document is not valid, there is no such file or preset, or a setting does not fit.
    """
    families = families or FAMILIES
    if settings:
        document = with_settings(read(source, *families).to_dict(), settings)
        return spec_file.validate(document, *families, subject=f"{source} with --set")
    presets = catalogue.presets()
    if str(source) in presets:
        try:
            preset = presets[str(source)]()
        except ValidationError as error:  # of a preset that calls `GAN.Spec.model_validate`
            raise validation_error(error, str(source)) from None
        return spec_file.validate(preset, *families, subject=str(source))
    if not Path(source).is_file():
        if Path(source).suffix in (".yaml", ".yml", ".json"):
            raise SpecValidationError([Problem((), "this file does not exist")], str(source))
        fact = "is a folder, not a spec" if Path(source).is_dir() else "is neither a file nor a preset"
        hint = f"{nearest(str(source), list(presets))}{catalogue.failed()}"
        raise SpecValidationError([Problem((), f"{fact}; {hint}")], str(source))
    return spec_file.read(source, *families)


def parse(data: Any, *families: type[Block], subject: str = "", plugins: Mapping[str, str] | None = None) -> Spec:
    """The document in plain data, such as a dictionary; `plugins` are the packages that it was made with.

    Raises:
        SpecValidationError: The document is not valid.
    """
    return spec_file.validate(data, *(families or FAMILIES), subject=subject, plugins=plugins)


def document_schema() -> dict[str, Any]:
    """JSON schema of a document over all installed blocks, for completion and checks in an editor."""
    return spec_file.schema(*FAMILIES)


def plugins_of(spec: Spec) -> dict[str, str]:
    """Packages that the blocks of a spec come from, with their versions."""
    origins = {}
    for _, part in specs_in(spec):
        entry = catalogue.get(part.block.family_name, part.kind)
        if entry is not None:
            origins[entry.origin.package] = entry.origin.version
    return dict(sorted(origins.items()))


def schedules_in(spec: Spec) -> dict[str, Schedule]:
    """The schedules in a document, by their paths in it, such as generator_optimizer.lr."""
    return {".".join(path): part.build() for path, part in specs_in(spec) if issubclass(part.block, Schedule)}


def specs_in(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Spec]]:
    """A spec and all specs inside it, each with its path."""
    if isinstance(value, Spec):
        yield path, value
    if isinstance(value, BaseModel):
        for name, part in value:
            yield from specs_in(part, (*path, name))
    elif isinstance(value, tuple | list):
        for index, part in enumerate(value):
            yield from specs_in(part, (*path, str(index)))
