"""Images in archives: zips as StyleGAN's data tools write them, and WebDataset's tar shards.

WebDataset, https://github.com/webdataset/webdataset: the members of a sample share their name up to its first dot.
Members are read at random positions, so that the order of training depends on seed and position alone.
"""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple

from ganblocks.data.formats import is_image, stem_of, suffix_of
from ganblocks.data.locations import is_visible
from ganblocks.data.skipped import Skipped, UnreadableError, reason_for
from ganblocks.errors import DataError
from registry import Location

MAX_MEMBER = 2**28  # bytes of a member, which is read whole
UNPACK = {".gz": "gunzip", ".tgz": "gunzip", ".bz2": "bunzip2", ".xz": "unxz", ".zst": "unzstd"}
UNPACK |= {".tbz2": "bunzip2", ".txz": "unxz", ".7z": "7z x", ".rar": "unrar x"}
METHODS = {9: "Deflate64", 93: "Zstandard", 95: "xz", 98: "PPMd"}  # of zips, not supported by zipfile
SIGNATURES = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}


class Member(NamedTuple):
    """A file inside an archive.

    Args:
        archive: Path of the archive.
        inner: Path inside it, with `/`.
        offset: Position of its bytes in a tar; in a zip, the number of its entry.
        size: Length in bytes, unpacked.
        in_zip: Whether the archive is a zip.
    """

    archive: str
    inner: str
    offset: int
    size: int
    in_zip: bool

    def __str__(self) -> str:
        return f"{self.archive}/{self.inner}"

    def open(self) -> IO[bytes]:
        """The bytes of the member, in memory.

        Raises:
            UnreadableError: The member is encrypted, damaged, too large, or packed by an unknown method.
        """
        if self.size > MAX_MEMBER:
            raise UnreadableError(f"is too large: {self.size:,} bytes; the limit is {MAX_MEMBER:,}")
        if self.in_zip:
            return io.BytesIO(self._read_from_zip())
        with open(self.archive, "rb") as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(self.size))

    def _read_from_zip(self) -> bytes:
        try:
            archive = _open_zip(self.archive, os.getpid())
            info = archive.infolist()[self.offset]
            if info.flag_bits & 1:
                raise UnreadableError("is encrypted; unpack the archive with its password")
            if info.compress_type in METHODS:
                raise UnreadableError(
                    f"is compressed by a method that is not supported ({METHODS[info.compress_type]}); unpack the "
                    "archive with 7z x"
                )
            return archive.read(info)
        except UnreadableError:
            raise
        except Exception as error:  # damaged data fail anywhere in zipfile and in the decompressors
            raise UnreadableError(f"is damaged: {reason_for(error)}") from error


class Sample(NamedTuple):
    """An image and the files that belong to it, by their suffix."""

    image: Location
    files: Mapping[str, Location]


def list_zip(path: Path) -> tuple[list[Member], list[Skipped]]:
    """The visible files of a zip, sorted by name.

    Raises:
        DataError: The file is not a zip, or cut short.
    """
    _open_zip.cache_clear()  # a file of this name may have been read before
    try:
        infos = _open_zip(str(path), os.getpid()).infolist()
    except Exception as error:  # zipfile raises many types of error for damaged tables of contents
        raise DataError(
            f"{path} cannot be read as a zip: {reason_for(error)}; it may be cut short or have another format"
        ) from None
    members, skipped = [], []
    names = Counter(info.filename for info in infos)
    for number, info in sorted(enumerate(infos), key=lambda pair: pair[1].filename):
        # some programs of Windows write backslashes, against the specification
        inner = info.filename.replace("\\", "/") if info.create_system == 0 else info.filename
        if info.is_dir() or inner.endswith("/") or not is_visible(inner):
            continue
        member = Member(str(path), inner, number, info.file_size, True)
        names[info.filename] -= 1
        if names[info.filename]:
            skipped.append(Skipped(str(member), "is followed by another entry of the same name"))
        else:
            members.append(member)
    return members, skipped


def list_tar(path: Path) -> tuple[list[Member], list[Skipped]]:
    """The visible files of a tar in their order; a tar that is cut short is skipped from there on.

    Raises:
        DataError: The tar is compressed.
    """
    members: list[Member] = []
    skipped: list[Skipped] = []
    with path.open("rb") as file:
        start = file.read(8)
    for signature, suffix in SIGNATURES.items():
        if start.startswith(signature):
            raise DataError(compressed(path, suffix))
    length, end = path.stat().st_size, 0
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                member = Member(str(path), info.name.removeprefix("./"), info.offset_data, info.size, False)
                if is_visible(member.inner) and not info.isdir():
                    if not info.isreg() or info.issparse():
                        kind = "link" if info.islnk() or info.issym() else "sparse or special file"
                        skipped.append(Skipped(str(member), f"is stored as a {kind}, which is not read"))
                    elif info.offset_data + info.size <= length:
                        members.append(member)
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
            end = tar.offset + tarfile.BLOCKSIZE  # a block of zeros ends a tar
    except Exception as error:  # tarfile raises more than TarError for damaged headers
        return members, [*skipped, Skipped(str(path), f"is damaged: {reason_for(error)}")]
    if length < end:
        skipped.append(Skipped(str(path), "is cut short"))
    return members, skipped


def samples_of(members: Iterable[Member]) -> Iterator[Sample]:
    """The images of a tar with the files that belong to them, in the order of the samples.

    The files of a sample share their name up to the first dot. Of several images in a sample, each has the files that
    share its name up to the last dot, and those without further dots. A name that occurs again begins a new sample.
    """
    groups: dict[tuple[str, int], list[Member]] = {}
    occurrences: Counter[str] = Counter()
    for member in members:
        groups.setdefault((key_of(member.inner), occurrences[member.inner]), []).append(member)
        occurrences[member.inner] += 1
    for (key, _), group in groups.items():
        by_stem: dict[str, dict[str, Member]] = {}
        for member in group:
            by_stem.setdefault(stem_of(member.inner), {})[suffix_of(member.inner)] = member
        images = [member for member in group if is_image(member.inner)]
        others = {suffix_of(member.inner): member for member in group} if len(images) == 1 else {}
        for image in images:
            yield Sample(image, others | by_stem.get(key, {}) | by_stem[stem_of(image.inner)])


def key_of(inner: str) -> str:
    """The sample that a member of a tar belongs to: its path up to the first dot of its name."""
    folder, slash, name = inner.rpartition("/")
    return folder + slash + name.partition(".")[0]


def compressed(path: Path, suffix: str) -> str:
    """The message that refuses a compressed archive."""
    return (
        f"{path} is a compressed archive ({suffix}), which cannot be read at random positions; unpack it first: "
        f"{UNPACK[suffix]} {path}"
    )


@lru_cache(maxsize=16)
def _open_zip(path: str, _process: int) -> zipfile.ZipFile:
    """An open zip; each process has its own, because processes that share one move each other's file position."""
    return zipfile.ZipFile(path)
