"""The data set `lmdb`: images in an LMDB, as StyleSwin's, StyleNAT's and other StyleGAN2 trainings store them.

`--data 'lmdb?path=FOLDER'` reads it in place. The layout: the value of `length` is the number of images as text, that
of `RESOLUTION-INDEX`, such as `256-00000`, an image file; the index has five digits or more. There are no labels.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NamedTuple

from pydantic import PositiveInt

from registry import DataSet, DataSetOptions, RegisterDataSet, hookimpl

LENGTH = b"length"
OPENING = threading.Lock()
_open: dict[str, tuple[int, Any]] = {}  # process and LMDB, by path


class Options(DataSetOptions):
    """What `--data lmdb?name=value&name=value` accepts.

    Args:
        path: The folder of the LMDB, or its file.
        resolution: Which of the stored sizes is read; by default the smallest that is at least the model's.
    """

    path: str
    resolution: PositiveInt | None = None


class Record(NamedTuple):
    """An image in an LMDB."""

    path: str
    resolution: int
    number: int

    def __str__(self) -> str:
        return f"{self.path}/{self.inner}"

    @property
    def inner(self) -> str:
        return f"{self.resolution}-{self.number:05d}"

    @property
    def size(self) -> int:
        return len(self._value())

    def open(self) -> IO[bytes]:
        """The image file, in memory.

        Raises:
            OSError: The LMDB has no such key.
        """
        return io.BytesIO(self._value())

    def _value(self) -> bytes:
        with _environment(self.path).begin() as transaction:
            value: bytes | None = transaction.get(self.inner.encode())
        if value is None:
            raise OSError(f"the LMDB has no key {self.inner}")
        return value


def prepare_lmdb(resolution: int, image_channels: int, options: Mapping[str, str]) -> DataSet:
    """The images of an LMDB, which are read where they are.

    Args:
        resolution: Pixels of a side that are needed.
        image_channels: Not used; images are converted when they are read.
        options: See `Options`.

    Raises:
        ValueError: An option is unknown, or the LMDB has another layout or no such size.
        ImportError: The package lmdb is missing.
        OSError: There is no such LMDB.
    """
    chosen = Options.chosen(options)
    if not Path(chosen.path).exists():
        raise OSError(f"there is no LMDB {chosen.path}")
    with _environment(chosen.path).begin() as transaction:
        length, sizes = transaction.get(LENGTH), sorted(_resolutions(transaction))
    if length is None or not length.isdigit() or not sizes:
        raise ValueError(f"{chosen.path} has no keys `length` and `RESOLUTION-INDEX`, such as 256-00000")
    size = chosen.resolution or next((each for each in sizes if each >= resolution), sizes[-1])
    if size not in sizes:
        raise ValueError(f"{chosen.path} has no images of {size} px; resolution can be {', '.join(map(str, sizes))}")
    return DataSet(Path(chosen.path), images=[Record(chosen.path, size, index) for index in range(int(length))])


def _resolutions(transaction: Any) -> Iterator[int]:
    """The sizes that occur in keys, each by one search: all keys of a size follow each other."""
    cursor = transaction.cursor()
    has_key = cursor.first()
    while has_key:
        size, dash, _ = bytes(cursor.key()).partition(b"-")
        if dash and size.isdigit():
            yield int(size)
        has_key = cursor.set_range(size + b".") if dash else cursor.next()  # `.` follows `-`


def _environment(path: str) -> Any:
    """An open LMDB; each process opens its own, after it has closed one that it inherited."""
    with OPENING:
        process, environment = _open.get(path, (os.getpid(), None))
        if environment is not None and process == os.getpid():
            return environment
        if environment is not None:
            environment.close()
        try:
            library = import_module("lmdb")
        except ImportError as error:
            raise ImportError(f"{error}: pip install 'ganblocks[lmdb]'") from None
        try:
            environment = library.open(path, subdir=Path(path).is_dir(), readonly=True, lock=False, readahead=False)
        except library.Error as error:
            raise OSError(f"{path} cannot be opened as an LMDB: {error}") from None
        _open[path] = (os.getpid(), environment)
        return environment


@hookimpl
def register_data_sets(register: RegisterDataSet) -> None:
    register("lmdb", prepare_lmdb)
