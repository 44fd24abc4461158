"""Parquet files as the Hugging Face Hub stores data sets of images: bytes, labels and captions in columns.

https://huggingface.co/docs/datasets/image_dataset; read with pyarrow, which `pip install ganblocks[parquet]` installs.
"""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NamedTuple

from ganblocks.data.skipped import UnreadableError, reason_for
from ganblocks.errors import DataError

IMAGE_COLUMNS = ("image", "img", "picture", "jpg", "png", "webp")
MAX_ROW_GROUP = 2**29  # bytes that are read at once
READING = threading.Lock()  # threads that need the same row group wait for one of them to read it


class Cell(NamedTuple):
    """The image in one row of a parquet file; rows are read in groups."""

    archive: str
    column: str
    group: int
    row: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.inner}"

    @property
    def inner(self) -> str:
        return f"row group {self.group}, row {self.row}"

    @property
    def size(self) -> int:
        """Length of the whole file, because the lengths of single images are not stored."""
        return os.stat(self.archive).st_size

    def open(self) -> IO[bytes]:
        """The bytes of the image.

        Raises:
            UnreadableError: The row has no bytes, or its row group cannot be read.
        """
        try:
            with READING:
                image = _column(self.archive, self.column, self.group, os.getpid())[self.row].as_py()
        except Exception as error:  # pyarrow raises many types of error for damaged files
            raise UnreadableError(reason_for(error)) from error
        data = image.get("bytes") if isinstance(image, Mapping) else image
        if not isinstance(data, bytes):
            path = image.get("path") if isinstance(image, Mapping) else image
            raise UnreadableError(f"has no bytes in its row, only a path: {path!r}")
        return io.BytesIO(data)


class LabelColumn(NamedTuple):
    """A column of a parquet file with labels or captions, and class names if it has them."""

    labels: list[Any]
    class_names: tuple[str, ...]


def read_parquet(path: Path) -> list[Cell]:
    """The images of a parquet file.

    Raises:
        DataError: pyarrow is not installed, the file cannot be read, or it has no column of images.
    """
    file = _open(path)
    names: list[str] = file.schema_arrow.names
    features = _features(file.schema_arrow.metadata)
    declared = [name for name in names if features.get(name, {}).get("_type") == "Image"]
    column = next(iter([*declared, *(name for name in IMAGE_COLUMNS if name in names)]), None)
    if column is None:
        raise DataError(f"{path} has no column of images ({', '.join(IMAGE_COLUMNS)}); its columns: {', '.join(names)}")
    cells = []
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group)
        if rows.total_byte_size > MAX_ROW_GROUP:
            raise DataError(
                f"{path}: row group {group} has {rows.total_byte_size:,} bytes, which are read at once; the limit is "
                f"{MAX_ROW_GROUP:,}: write the file with smaller row groups (row_group_size=100)"
            )
        cells += [Cell(str(path), column, group, row) for row in range(rows.num_rows)]
    return cells


def read_labels(path: Path, columns: Sequence[str]) -> LabelColumn | None:
    """The first of `columns` that a parquet file has; None if it has none of them."""
    file = _open(path)
    column = next((name for name in columns if name in file.schema_arrow.names), None)
    if column is None:
        return None
    names = _features(file.schema_arrow.metadata).get(column, {}).get("names")
    values = file.read(columns=[column]).column(column).to_pylist()
    return LabelColumn(values, tuple(map(str, names)) if isinstance(names, list) else ())


def _open(path: Path) -> Any:
    try:
        parquet = import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise DataError(f"{path}: parquet files are read with pyarrow: pip install ganblocks[parquet]") from None
    try:
        return parquet.ParquetFile(str(path))
    except Exception as error:  # pyarrow raises many types of error for damaged files
        raise DataError(f"{path} cannot be read as parquet: {reason_for(error)}") from None


def _features(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """The columns' types as the `datasets` library declares them, by name; empty where there are none."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return {name: each for name, each in features.items() if isinstance(each, dict)}


@lru_cache(maxsize=2)
def _column(path: str, column: str, group: int, _process: int) -> Any:
    """The images of a row group; the last two are held, each process its own."""
    return _open(Path(path)).read_row_group(group, columns=[column]).column(column)
