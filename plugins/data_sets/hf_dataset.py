"""The data set `hf-dataset`: what the `datasets` library of Hugging Face opens, its columns chosen by name.

`--data 'hf-dataset?path=USER/NAME&image=img&caption=text'`; the path may also be a local folder in the layout of
imagefolder, one with parquet files, or one that `save_to_disk` wrote. https://huggingface.co/docs/datasets. The library
stores a data set in its own cache as Arrow files, from which images are read at random positions. With `streaming` its
`IterableDataset` is read shard by shard instead. The order is that of `ganblocks.data.streaming`, because the shuffle
buffer of an `IterableDataset` is lost when it resumes.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NamedTuple

import fsspec
from pydantic import PositiveInt

from registry import DataSet, DataSetOptions, RegisterDataSet, ShardImage, hookimpl

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
        streaming: Whether it is read shard by shard, not copied as a whole; split is then a whole split.
        together: With streaming, shards whose images are shuffled together.
    """

    path: str
    name: str | None = None
    split: str = "train"
    image: str | None = None
    label: str | None = None
    caption: str | None = None
    streaming: bool = False
    together: PositiveInt | None = None


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


class HubShard(NamedTuple):
    """One of `total` parts of a data set that is streamed.

    Args:
        options: The options of the data set.
        image: Column of the images.
        label: Column of the classes; None without.
        caption: Column of the captions; None without.
        number: Number of the part.
        total: Number of parts.
    """

    options: Options
    image: str
    label: str | None
    caption: str | None
    number: int
    total: int

    @property
    def name(self) -> str:
        return f"{self.options.path}/{self.options.split}, shard {self.number} of {self.total}"

    def read(self) -> Iterator[ShardImage]:
        table = _streamed(self.options, self.image, os.getpid())[0].shard(self.total, self.number)
        columns = [column for column in (self.image, self.label, self.caption) if column is not None]
        for number, row in enumerate(table.select_columns(columns)):
            label = row[self.label] if self.label else None
            captions = row[self.caption] if self.caption else ()
            yield ShardImage(
                f"row {number}",
                _bytes_of(row[self.image] or {}),
                label if isinstance(label, str) or (isinstance(label, int) and label >= 0) else None,
                (captions,) if isinstance(captions, str) else tuple(captions or ()),
            )


def _bytes_of(image: Mapping[str, Any]) -> bytes:
    """The image file of a row; empty if the row has none."""
    if image.get("bytes") is not None:
        return bytes(image["bytes"])
    if not image.get("path"):
        return b""
    with fsspec.open(image["path"], "rb") as file:
        return bytes(file.read())


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
    chosen = Options.chosen(options)
    table, version = (
        _streamed(chosen, None, os.getpid()) if chosen.streaming else (_opened(chosen, None, os.getpid()), "")
    )
    image_type = import_module("datasets").Image
    images = [name for name, feature in table.features.items() if isinstance(feature, image_type)]
    column = _column(table, chosen.image, images, "image")
    if column is None:
        raise ValueError(f"{chosen.path} has no column of images; its columns are {', '.join(table.column_names)}")
    label = _column(table, chosen.label, LABELS, "label")
    caption = _column(table, chosen.caption, CAPTIONS, "caption")
    data_set = DataSet(Path(chosen.path), table.info.license or "", together=chosen.together, version=version)
    if chosen.streaming:
        total = table.num_shards
        shards = [HubShard(chosen, column, label, caption, number, total) for number in range(total)]
        names = getattr(table.features[label], "names", None) if label else None
        return data_set._replace(shards=shards, class_names=tuple(names or ()))
    classes, class_names = _classes(table, label)
    rows = [Row(chosen, column, index) for index in range(len(table))]
    return data_set._replace(images=rows, classes=classes, class_names=class_names, captions=_captions(table, caption))


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
def _streamed(options: Options, image_column: str | None, _process: int) -> tuple[Any, str]:
    """A data set that is streamed, whose images are not decoded, and a hash of its files."""
    library = _library()
    if _is_saved(options.path):
        raise ValueError(f"{options.path} was written by save_to_disk and is read in place; omit streaming")
    try:
        builder = library.load_dataset_builder(options.path, options.name)
        table = builder.as_streaming_dataset(options.split)
    except Exception as error:  # the library and its file systems raise errors of many types
        raise OSError(f"{options.path} cannot be opened: {str(error) or type(error).__name__}") from error
    if image_column is not None:
        table = table.cast_column(image_column, library.Image(decode=False))
    return table, builder.hash


@lru_cache(maxsize=4)
def _opened(options: Options, image_column: str | None, _process: int) -> Any:
    """A data set, whose images are not decoded; each process opens its own."""
    library = _library()
    try:
        if _is_saved(options.path):
            saved = library.load_from_disk(options.path)
            table = saved[options.split] if isinstance(saved, library.DatasetDict) else saved
        else:
            table = library.load_dataset(options.path, options.name, split=options.split)
    except Exception as error:  # the library and its file systems raise errors of many types
        raise OSError(f"{options.path} cannot be opened: {str(error) or type(error).__name__}") from error
    return table if image_column is None else table.cast_column(image_column, library.Image(decode=False))


def _is_saved(path: str) -> bool:
    """Whether `save_to_disk` wrote a data set."""
    return any((Path(path) / name).exists() for name in ("state.json", "dataset_dict.json"))


def _library() -> Any:
    try:
        return import_module("datasets")
    except ImportError as error:
        raise ImportError(f"{error}: pip install 'ganblocks[datasets]'") from None


@hookimpl
def register_data_sets(register: RegisterDataSet) -> None:
    register("hf-dataset", prepare_dataset)
