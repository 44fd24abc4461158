"""Documents of presets, files, runs and models, and networks from them: read, check, build. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry import SpecError

if TYPE_CHECKING:
    from torch import nn

    from registry import Spec

STAGES = "multi_stage.yaml"  # in a folder of the runs of several stages
DOCUMENTS = ("gan.yaml", STAGES)  # of a run folder
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
    return read_with_context(source, settings)[0]


def read_with_context(source: str | Path, settings: Sequence[str] = ()) -> tuple[Spec, dict[str, Any]]:
    """The document of `read_source`, and what it is checked with as arguments of `check`.

    These are what the discriminator of a model file was built with; {} for all other sources.

    Raises:
        SpecValidationError: As in `read_source`, or the context in the model file is not valid.
        CheckpointError: The model file is damaged.
    """
    from pydantic import ValidationError

    from assemblies import parse, read
    from assemblies.document_paths import with_settings
    from assemblies.model_file import read_metadata
    from registry.messages import validation_error

    path = Path(source)
    if path.suffix != MODEL_SUFFIX or not path.is_file():
        return read(document_of_run(source) or source, settings=settings), {}
    metadata = read_metadata(path)
    spec = parse(with_settings(metadata["spec"], settings), subject=str(path), plugins=metadata.get("plugins"))
    if "context" not in metadata:
        return spec, {}
    try:
        context = dict(spec.block.Context(**metadata["context"]))
    except ValidationError as error:
        raise validation_error(error, str(path)) from None
    return spec, {name: value for name, value in context.items() if name != "value_range"}


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
