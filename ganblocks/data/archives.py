"""Images that lie in archives: zips as StyleGAN's data tools write them, and webdataset's tar shards.

WebDataset, https://github.com/webdataset/webdataset: the members of a sample share their name up to its first dot. Each
member is read where it stands, so that the order of a training follows from seed and position here too.
"""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple

from PIL import Image

TEXTS = (".txt", ".caption", ".json", ".cls")


class Member(NamedTuple):
    """A file inside an archive; `offset` is where its bytes begin in a tar, -1 in a zip."""

    archive: str
    inner: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.inner}"

    @property
    def name(self) -> str:
        return self.inner.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return Path(self.inner).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.inner.split("/"))

    def read(self) -> bytes:
        if self.offset < 0:
            return _zip(self.archive, os.getpid()).read(self.inner)
        with open(self.archive, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def open(self) -> IO[bytes]:
        return io.BytesIO(self.read())


def members(path: Path) -> tuple[list[Member], str | None]:
    """What an archive holds, sorted in a zip and as it comes in a tar; and what is wrong with its end, if anything."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as file:
            inside = [info for info in file.infolist() if not info.is_dir()]
        return [Member(str(path), info.filename, -1, info.file_size) for info in _by_name(inside)], None
    found: list[Member] = []
    length, end = path.stat().st_size, 0
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                if info.isfile() and info.offset_data + info.size <= length:
                    found.append(Member(str(path), info.name.removeprefix("./"), info.offset_data, info.size))
            end = tar.offset + tarfile.BLOCKSIZE  # a block of zeros ends a tar
    except tarfile.TarError as error:
        return found, str(error)
    return found, "is cut short" if length < end else None


def is_image(name: str) -> bool:
    """Whether a name's suffix is one of an image that can be read."""
    suffix = Path(name).suffix.lower()
    return Image.registered_extensions().get(suffix) in Image.OPEN


def sample_of(member: Member) -> str:
    """The sample that a member belongs to: its name up to the first dot, folders included."""
    folder, _, name = member.inner.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"


def _by_name(inside: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    return sorted(inside, key=lambda info: info.filename)


@lru_cache(maxsize=16)
def _zip(path: str, _process: int) -> zipfile.ZipFile:
    """An open zip; each process has its own, because they would move each other's place in the file."""
    return zipfile.ZipFile(path)
