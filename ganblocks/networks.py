"""Documents of presets, files, runs and models, and networks from them: read, check, build. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry import SpecError

if TYPE_CHECKING:
    from torch import nn

    from registry import Spec

DOCUMENTS = ("gan.yaml", "multi_stage.yaml")  # of a run folder
MODEL_SUFFIX = ".safetensors"


def read_source(source: str | Path, settings: Sequence[str] = ()) -> Spec:
    """The document in a file or a run folder, the preset of that name, or the generator of a model file.

    Args:
        source: A path, or the name of a preset.
        settings: Changes of the document, each `path=value`.

    Raises:
        SpecValidationError: The document is not valid, there is none, or a setting does not fit.
        CheckpointError: The model file is damaged.
    """
    from assemblies import parse, read
    from assemblies.document_paths import with_settings
    from assemblies.model_file import read_metadata

    path = Path(source)
    if path.suffix == MODEL_SUFFIX and path.is_file():
        metadata = read_metadata(path)
        return parse(with_settings(metadata["spec"], settings), subject=str(path), plugins=metadata.get("plugins"))
    return read(document_of_run(source) or source, settings=settings)


def discriminator_context(source: str | Path, spec: Spec) -> dict[str, Any]:
    """What the discriminator of a model file was built with, as arguments of `check`; {} for all other sources.

    Raises:
        SpecValidationError: The context in the file is not valid.
    """
    from pydantic import ValidationError

    from assemblies.model_file import read_metadata
    from registry.messages import validation_error

    path = Path(source)
    if path.suffix != MODEL_SUFFIX or not path.is_file() or "context" not in (metadata := read_metadata(path)):
        return {}
    try:
        context = dict(spec.block.Context(**metadata["context"]))
    except ValidationError as error:
        raise validation_error(error, str(path)) from None
    return {name: value for name, value in context.items() if name != "value_range"}


def document_of_run(source: str | Path) -> Path | None:
    """The file of the document in a run folder; None if the source is no run folder."""
    return next((path for name in DOCUMENTS if (path := Path(source) / name).is_file()), None)


def build(spec: Spec | Mapping[str, Any] | str | Path, **context: Any) -> nn.Module:
    """Build the network or GAN of a spec, with random weights, in training mode.

    Args:
        spec: A spec, the same as plain data, a file, or a preset's name.
        context: For a single discriminator: resolution (height, width), image_channels, cond_dim.

    Raises:
        SpecError: The spec is not valid or does not fit together; all problems are listed.
    """
    from assemblies import check, parse, read

    document = read(spec) if isinstance(spec, str | Path) else parse(spec)
    try:
        check(document, **context)
    except SpecError as error:
        raise error.about(str(spec) if isinstance(spec, str | Path) else "The spec") from None
    network: nn.Module = document.build(**context)
    return network
