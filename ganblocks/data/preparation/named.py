"""Data sets that plugins register by a name: calls the plugin, and checks what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ganblocks.errors import DataError
from registry import DataSet, catalogue
from registry.text import excerpt


def prepare_named(name: str, resolution: int, image_channels: int, options: Mapping[str, str]) -> DataSet:
    """The data set that a plugin prepares; arguments are those of `registry.hookspecs.PrepareDataSet`.

    Raises:
        DataError: The plugin refuses the options, or returns something else than a sound `DataSet`.
    """
    try:
        data_set = catalogue.data_sets()[name](resolution, image_channels, options)
    except (ValueError, ImportError, OSError) as error:
        raise DataError(f"--data {name}: {error}") from error
    if problem := _problem_of(data_set):
        raise DataError(f"--data {name}: the plugin of {catalogue.origin('data set', name)} {problem}")
    return data_set


def _problem_of(data_set: object) -> str | None:
    if not isinstance(data_set, DataSet):
        fact = f"returned {excerpt(repr(data_set))} from its function for this data set"
        return f"{fact}; it must return registry.DataSet(path, license)"
    if not isinstance(data_set.path, Path):
        return f"returned a DataSet whose path is {excerpt(repr(data_set.path))}; it must be a pathlib.Path"
    for part in ("classes", "captions"):
        labels = getattr(data_set, part)
        if data_set.images is not None and labels is not None and len(labels) != len(data_set.images):
            fact = f"returned a DataSet of {len(data_set.images)} images with {len(labels)} {part}"
            return f"{fact}; it must give one for each image"
    return None
