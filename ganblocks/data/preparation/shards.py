"""Tar shards of images of one resolution, each made by one process."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from pydantic import BaseModel, ConfigDict

from ganblocks.data.captions import Captions
from ganblocks.data.decode import MODES, decode
from ganblocks.data.preparation.options import PrepareOptions
from ganblocks.data.skipped import UnreadableError
from registry import Location
from registry.spec_file import replacing, write_atomically

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "png": {},
    "jpeg": {"quality": 95, "subsampling": 0},
    "webp": {"lossless": True},
}


class ShardRecord(BaseModel):
    """A complete shard: its file, its numbers of images in all and of each class, and what could not be read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    images: int
    classes: dict[str, int] = {}
    sha256: str
    skipped: list[tuple[str, str]] = []


class Sample(NamedTuple):
    """An image, its path inside the shard without a suffix, and its captions."""

    location: Location
    name: str
    captions: Captions


def make_shard(file: Path, samples: Sequence[Sample], options: PrepareOptions) -> ShardRecord:
    """Write a shard, and its record beside it; the shard appears when it is complete.

    Raises:
        OSError: A file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    skipped: list[tuple[str, str]] = []
    classes: Counter[str] = Counter()
    with replacing(file) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
            for sample in samples:
                try:
                    _add(archive, sample.name + SUFFIXES[options.image_format], _encoded(sample.location, options))
                except UnreadableError as error:
                    skipped.append((str(sample.location), str(error)))
                    continue
                folder, slash, _ = sample.name.partition("/")
                classes.update([folder] if slash else [])
                if sample.captions:
                    _add(archive, f"{sample.name}.txt", "\n".join(sample.captions).encode())
        with open(temporary, "rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        record = ShardRecord(
            file=f"{file.parent.name}/{file.name}",
            images=len(samples) - len(skipped),
            classes=classes,
            sha256=digest,
            skipped=skipped,
        )
        write_atomically(record_of(file), record.model_dump_json().encode())
    return record


def _encoded(location: Location, options: PrepareOptions) -> bytes:
    size = (options.resolution, options.resolution)
    pixels = decode(location, size, options.image_channels, options.resize_filter, options.crop).transpose(1, 2, 0)
    image = Image.fromarray(pixels.squeeze(2) if options.image_channels == 1 else pixels, MODES[options.image_channels])
    buffer = io.BytesIO()
    image.save(buffer, options.image_format, **SAVE_OPTIONS[options.image_format])
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def record_of(file: Path) -> Path:
    """Where the record of a shard is until all are complete."""
    return file.parent.parent / f".{file.parent.name}-{file.stem}.json"
