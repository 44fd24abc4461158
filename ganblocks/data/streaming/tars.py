"""Tar shards as WebDataset has them, in a folder or wherever fsspec finds them, and what is known of their sizes."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import fsspec

from blocks.families.networks import ConditionInput
from ganblocks.data.archives import Sample, list_tar, samples_of
from ganblocks.data.captions import captions_beside
from ganblocks.data.formats import suffix_of
from ganblocks.data.labels import CLASS_SUFFIX, class_in
from ganblocks.data.locations import is_visible
from ganblocks.data.preparation.download import list_files
from ganblocks.data.skipped import Skipped, UnreadableError
from ganblocks.data.streaming.store import Row, ShardIndex, Stopped
from ganblocks.errors import DataError
from registry.spec_file import replacing

CHUNK = 2**22  # bytes that are copied at once
MARKS = ("mtime", "ETag", "etag", "blob_id")  # of a file's content: disks, S3 and web, other stores, the Hub


class TarShard(NamedTuple):
    """A tar.

    Args:
        url: Where it is, in the notation of fsspec.
        name: Its path in the data set.
        num_bytes: Its length; 0 if unknown.
        changed: When it was written, or another mark of its content; empty if unknown.
        labels: Which labels are read.
    """

    url: str
    name: str
    num_bytes: int
    changed: str
    labels: ConditionInput | None

    def fetch(self, copy: Path, stopped: Callable[[], bool]) -> ShardIndex:
        system, path = fsspec.core.url_to_fs(self.url)
        file = Path(path)
        if not is_local(system):
            file = copy
            with replacing(copy) as temporary, system.open(path, "rb") as source, open(temporary, "wb") as target:
                while chunk := source.read(CHUNK):
                    if stopped():
                        raise Stopped
                    target.write(chunk)
                if self.num_bytes not in (0, size := target.tell()):
                    raise UnreadableError(f"has {size:,} bytes, and {self.num_bytes:,} when it was listed")
        members, skipped = list_tar(file)
        rows = [self._row(sample) for sample in samples_of(members)]
        named = [Skipped(self.name + each.path.removeprefix(str(file)), each.reason) for each in skipped]
        return ShardIndex(str(file), rows, tuple(named))

    def _row(self, sample: Sample) -> Row:
        image: Any = sample.image
        row = Row(image.inner, image.offset, image.size)
        try:
            if self.labels == "captions":
                if captions := captions_beside(sample.files):
                    return row._replace(captions=captions)
                return row._replace(problem="has no caption: a .txt or .json in its sample")
            if self.labels == "classes":
                return row._replace(label=_class_of(sample))
        except (UnreadableError, DataError) as error:
            return row._replace(problem=str(error))
        return row


def _class_of(sample: Sample) -> int | str:
    """The number in the .cls file of a sample, or the first folder of its path in the tar."""
    if CLASS_SUFFIX in sample.files:
        number = class_in(sample.files[CLASS_SUFFIX])
        if isinstance(number, UnreadableError):
            raise number
        return number
    folder, slash, _ = sample.image.inner.partition("/")
    if not slash:
        raise UnreadableError("has no class: neither a .cls file nor a folder named after it")
    return folder


def is_local(system: Any) -> bool:
    """Whether a file system is that of this machine."""
    return isinstance(system, fsspec.implementations.local.LocalFileSystem)


def find_tars(url: str, labels: ConditionInput | None) -> list[TarShard]:
    """A tar, or those below a folder, sorted by name.

    Raises:
        DataError: There is no such folder, or it cannot be listed.
    """
    system, path, files = list_files(url)
    base = posixpath.dirname(path) if path in files else path.rstrip("/")
    tars = []
    for name, info in sorted(files.items()):
        inner = posixpath.relpath(name, base) if base else name.lstrip("/")
        if suffix_of(inner) == ".tar" and is_visible(inner):
            changed = next((str(info[mark]) for mark in MARKS if info.get(mark)), "")
            tars.append(TarShard(system.unstrip_protocol(name), inner, int(info["size"] or 0), changed, labels))
    return tars
