"""The data set `hf-dataset`: what the `datasets` library of Hugging Face opens, its columns chosen by name.

`--data 'hf-dataset?path=USER/NAME&image=img&caption=text'`; the path may also be a local folder in the layout of
imagefolder, one with parquet files, or one that `save_to_disk` wrote. https://huggingface.co/docs/datasets. The library
stores a data set in its own cache as Arrow files, from which images are read at random positions.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NamedTuple

from plugins.data_sets.options import DataSetOptions, chosen_options
from registry import DataSet, RegisterDataSet, hookimpl

LABELS = ("label", "labels", "class")  # columns of classes, of which the first that is there is used
CAPTIONS = ("caption", "captions", "text", "prompt")


class Options(DataSetOptions):
    """What `--data hf-dataset?name=value&name=value` accepts.

    Args:
        path: A repository on the Hub, or a local folder.
        name: Configuration of the data set.
        split: Split, or a part of one, such as train[:1000]; not used for a single split that `save_to_disk` wrote.
        image: Column of the images; by default the first one of that type.
        label: Column of the classes; by default label, labels or class.
        caption: Column of the captions; by default caption, captions, text or prompt.
    """

    path: str
    name: str | None = None
    split: str = "train"
    image: str | None = None
    label: str | None = None
    caption: str | None = None


class Row(NamedTuple):
    """The image in one row of a data set."""

    options: Options
    column: str
    row: int

    def __str__(self) -> str:
        return f"{self.options.path}/{self.inner}"

    @property
    def inner(self) -> str:
        return f"{self.options.split}, row {self.row}"

    @property
    def size(self) -> int:
        """0, because the lengths of single images are not stored."""
        return 0

    def open(self) -> IO[bytes]:
        """The image file.

        Raises:
            OSError: The row has neither bytes nor a file.
        """
        image = _opened(self.options, self.column, os.getpid())[self.row][self.column] or {}
        if image.get("bytes") is not None:
            return io.BytesIO(image["bytes"])
        if image.get("path"):
            return open(image["path"], "rb")
        raise OSError("the row has no image")


def prepare_dataset(resolution: int, image_channels: int, options: Mapping[str, str]) -> DataSet:
    """The images of a data set, with its classes and captions.

    Args:
        resolution: Not used; images are resized when they are read.
        image_channels: Not used.
        options: See `Options`.

    Raises:
        ValueError: An option is unknown, a column does not exist, or the data set has no images.
        ImportError: The package datasets is missing.
        OSError: The data set cannot be opened.
    """
    chosen = chosen_options(Options, options)
    table = _opened(chosen, None, os.getpid())
    image_type = import_module("datasets").Image
    images = [name for name, feature in table.features.items() if isinstance(feature, image_type)]
    column = _column(table, chosen.image, images, "image")
    if column is None:
        raise ValueError(f"{chosen.path} has no column of images; its columns are {', '.join(table.column_names)}")
    classes, class_names = _classes(table, _column(table, chosen.label, LABELS, "label"))
    captions = _captions(table, _column(table, chosen.caption, CAPTIONS, "caption"))
    rows = [Row(chosen, column, index) for index in range(len(table))]
    return DataSet(Path(chosen.path), table.info.license or "", rows, classes, class_names, captions)


def _column(table: Any, chosen: str | None, names: Sequence[str], option: str) -> str | None:
    """The chosen column, or the first of `names` that there is."""
    if chosen is not None and chosen not in table.column_names:
        raise ValueError(f"{option}: there is no column {chosen}; columns are {', '.join(table.column_names)}")
    return chosen or next((name for name in names if name in table.column_names), None)


def _classes(table: Any, column: str | None) -> tuple[list[int] | None, tuple[str, ...]]:
    """The class of each row from 0, and the names of the classes; names alone are numbered in alphabetical order."""
    if column is None:
        return None, ()
    values = list(table[column])
    if (names := getattr(table.features[column], "names", None)) is not None:
        return _integers(values, column), tuple(names)
    if values and all(isinstance(value, str) for value in values):
        names = sorted(set(values))
        numbers = {name: number for number, name in enumerate(names)}
        return [numbers[value] for value in values], tuple(names)
    classes = _integers(values, column)
    return classes, tuple(map(str, range(max(classes, default=-1) + 1)))


def _integers(values: list[Any], column: str) -> list[int]:
    for row, value in enumerate(values):
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"column {column}, row {row}: {value!r} is no class; classes are numbers from 0, or names")
    return values


def _captions(table: Any, column: str | None) -> list[tuple[str, ...]] | None:
    if column is None:
        return None
    captions = [(value,) if isinstance(value, str) else tuple(value or ()) for value in table[column]]
    for row, each in enumerate(captions):
        if not each or not all(isinstance(caption, str) and caption.strip() for caption in each):
            raise ValueError(f"column {column}, row {row}: {each!r} is no caption")
    return captions


@lru_cache(maxsize=4)
def _opened(options: Options, image_column: str | None, _process: int) -> Any:
    """A data set, whose images are not decoded; each process opens its own."""
    try:
        library = import_module("datasets")
    except ImportError as error:
        raise ImportError(f"{error}: pip install 'ganblocks[datasets]'") from None
    try:
        if any((Path(options.path) / name).exists() for name in ("state.json", "dataset_dict.json")):  # save_to_disk
            saved = library.load_from_disk(options.path)
            table = saved[options.split] if isinstance(saved, library.DatasetDict) else saved
        else:
            table = library.load_dataset(options.path, options.name, split=options.split)
    except Exception as error:  # the library and its file systems raise errors of many types
        raise OSError(f"{options.path} cannot be opened: {str(error) or type(error).__name__}") from error
    return table if image_column is None else table.cast_column(image_column, library.Image(decode=False))


@hookimpl
def register_data_sets(register: RegisterDataSet) -> None:
    register("hf-dataset", prepare_dataset)
