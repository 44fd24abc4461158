"""Locations of files of a data set: in a folder, or inside an archive."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from ganblocks.data.skipped import Skipped, UnreadableError
from registry import Location

MAX_TEXT = 2**20  # bytes of a file with the captions or the class of one image
# folders in which macOS and Synology's DSM keep resource forks and thumbnails
SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir"})
FILES_OF_RUN = {"run.json", "gan.yaml"}  # written before the first picture
BYTE_ORDER_MARKS = {  # UTF-32 first, because its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class File(NamedTuple):
    """A file below a folder."""

    root: str
    inner: str

    def __str__(self) -> str:
        return os.path.join(self.root, self.inner)

    @property
    def size(self) -> int:
        return os.stat(str(self)).st_size

    def open(self) -> IO[bytes]:
        return SizedReader(str(self))


class SizedReader(io.BufferedReader):
    """A file on disk. A read allocates no more than the file's length, where damaged images want gigabytes.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        super().__init__(io.FileIO(path))
        self.length = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if size is None or size < 0 else min(size, self.length))


def list_folder(folder: Path) -> tuple[list[File], list[Skipped]]:
    """All files below a folder, sorted by their path inside it, without hidden ones and those of system folders.

    The folders of trainings below it are omitted, whose pictures would make it another data set when they are resumed.
    Linked folders are followed. Folders that cannot be listed are skipped, as are devices and pipes.
    """
    root = str(folder)
    files: list[File] = []
    skipped: list[Skipped] = []
    pending: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(root),))]
    while pending:
        prefix, ancestors = pending.pop()
        try:
            entries = list(os.scandir(os.path.join(root, prefix)))
        except OSError as error:
            skipped.append(Skipped(os.path.join(root, prefix), f"cannot be listed: {error.strerror}"))
            continue
        if prefix and {entry.name for entry in entries} >= FILES_OF_RUN:
            continue
        for entry in entries:
            inner = prefix + entry.name
            if not is_visible(entry.name):
                continue
            if entry.is_dir():
                # a link to a folder around it would be followed for ever
                real = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(ancestors[-1], entry.name)
                if real in ancestors:
                    skipped.append(Skipped(entry.path, "is a link to a folder that contains it"))
                else:
                    pending.append((inner + "/", (*ancestors, real)))
            elif entry.is_file():
                files.append(File(root, inner))
            else:
                broken = entry.is_symlink() and not os.path.exists(entry.path)
                skipped.append(Skipped(entry.path, "is a broken link" if broken else "is not a regular file"))
    return sorted(files, key=lambda file: file.inner), skipped


def is_visible(inner: str) -> bool:
    """Whether no part of a path is hidden (begins with a dot) or belongs to an operating system."""
    return not any(part in SYSTEM_FOLDERS or (part.startswith(".") and part.strip(".")) for part in inner.split("/"))


def read_text(location: Location, limit: int = MAX_TEXT) -> str:
    """A text file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, which is removed.

    Raises:
        UnreadableError: The file cannot be read, has more than `limit` bytes, or is in another encoding.
    """
    try:
        if location.size > limit:
            raise UnreadableError(f"is too long: {location.size:,} bytes; the limit is {limit:,}")
        with location.open() as file:
            data = file.read()
        encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
        text = data.decode(encoding)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UnreadableError(
            f"is not UTF-8: byte 0x{error.object[error.start]:02x} at position {error.start}; convert it"
        ) from None
    if "\0" in text:  # UTF-16 without a byte order mark decodes as UTF-8 with zeros
        raise UnreadableError("is not UTF-8: it has zero bytes; convert it")
    return text


def parents(inner: str) -> Iterator[str]:
    """The folders of a path inside a data set, the nearest first, each with its closing `/`; the last is empty."""
    while "/" in inner:
        inner = inner.rpartition("/")[0]
        yield inner + "/"
    yield ""
