"""Checks a data set: which files cannot be read, sizes and modes, duplicates, classes and captions."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

from PIL import Image

from blocks.families.networks import ConditionInput
from ganblocks.data.decode import MAX_BYTES_AT_ONCE, decode, member_budget
from ganblocks.data.formats import readable_formats
from ganblocks.data.index import Listing, labelled
from ganblocks.data.parquet import Cell
from ganblocks.data.skipped import Skipped, UnreadableError, reason_for
from ganblocks.data.sources import list_source
from ganblocks.errors import DataError
from registry import Location

MAX_CLASSES = 1_000_000
TRIAL = (16, 16)  # pixels to which each image is resized to see whether it can be decoded


class ImageFacts(NamedTuple):
    """What is known of an image that can be decoded."""

    size: tuple[int, int]
    mode: str
    format: str
    num_bytes: int
    sha256: str


class DataReport(NamedTuple):
    """What a check found.

    Args:
        source: The data set.
        images: Number of images that can be read.
        num_bytes: Bytes of all of them.
        unreadable: Files that cannot be read, with the reasons.
        sizes: How many images have each width and height, the most frequent first.
        modes: How many images have each of Pillow's modes.
        formats: How many images have each format.
        duplicates: Groups of files with the same bytes.
        classes: How many images each class has; None without classes.
        captions: How many captions there are; None without captions.
        notes: Sentences: why there are no classes or captions, what is not read.
        locations: Where the images that can be read lie.
    """

    source: str
    images: int
    num_bytes: int
    unreadable: tuple[Skipped, ...]
    sizes: dict[tuple[int, int], int]
    modes: dict[str, int]
    formats: dict[str, int]
    duplicates: tuple[tuple[str, ...], ...]
    classes: dict[str, int] | None
    captions: int | None
    notes: tuple[str, ...]
    locations: tuple[Location, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON data, without the locations."""
        content = self._asdict() | {
            "unreadable": [each._asdict() for each in self.unreadable],
            "sizes": {f"{width}x{height}": count for (width, height), count in self.sizes.items()},
        }
        del content["locations"]
        return content


def check_data(source: str | Path, progress: Callable[[int, int], None] = lambda done, total: None) -> DataReport:
    """Decode all images of a data set, and count what is there. Files are listed once, and images are read once.

    Args:
        source: A folder, a .zip, .tar shards, parquet files, a URL, or the name of a plugin's data set.
        progress: Called with the number of images done and their total.

    Raises:
        DataError: There are no images.
    """
    listing, _ = list_source(source)
    index = labelled(listing, None)
    facts: list[tuple[Location, ImageFacts]] = []
    unreadable = [*index.skipped]
    with ThreadPoolExecutor() as pool:
        for done, (location, result) in enumerate(
            zip(index.locations, pool.map(_examine, index.locations), strict=True), start=1
        ):
            if isinstance(result, ImageFacts):
                facts.append((location, result))
            else:
                unreadable.append(Skipped(str(location), result))
            progress(done, len(index.locations))
    by_hash: dict[str, list[str]] = {}
    for location, each in facts:
        by_hash.setdefault(each.sha256, []).append(str(location))
    classes, notes = labels_of(listing, "classes")
    captions, more_notes = labels_of(listing, "captions")
    return DataReport(
        source=str(source),
        images=len(facts),
        num_bytes=sum(each.num_bytes for _, each in facts),
        unreadable=tuple(unreadable),
        sizes=dict(Counter(each.size for _, each in facts).most_common()),
        modes=dict(Counter(each.mode for _, each in facts).most_common()),
        formats=dict(Counter(each.format for _, each in facts).most_common()),
        duplicates=tuple(tuple(names) for names in by_hash.values() if len(names) > 1),
        classes=None if classes is None else dict(sorted(Counter(classes.values()).items())),
        captions=None if captions is None else sum(map(len, captions.values())),
        notes=(*notes, *more_notes),
        locations=tuple(location for location, _ in facts),
    )


def labels_of(listing: Listing, condition_input: ConditionInput) -> tuple[dict[str, Any] | None, list[str]]:
    """The class name or the captions of each image by its path; None, and the reason, if there are none."""
    try:
        index = labelled(listing, condition_input, MAX_CLASSES)
    except DataError as error:
        return None, [f"no {condition_input}: {error}"]
    labels: Sequence[Any] = index.captions or ()
    if condition_input == "classes":
        labels = [index.class_names[number] for number in index.classes or ()]
    return dict(zip(map(str, index.locations), labels, strict=True)), []


class InMemory(NamedTuple):
    """A file whose bytes have been read."""

    location: Location
    data: bytes

    def __str__(self) -> str:
        return str(self.location)

    @property
    def inner(self) -> str:
        return self.location.inner

    @property
    def size(self) -> int:
        return len(self.data)

    def open(self) -> IO[bytes]:
        return io.BytesIO(self.data)


def _examine(location: Location) -> ImageFacts | str:
    """What is known of an image, or why it cannot be read."""
    try:
        size = 0 if isinstance(location, Cell) else location.size  # a cell has the size of its file
        with member_budget.reserve(size):
            content: Location = location
            if size <= MAX_BYTES_AT_ONCE:
                with location.open() as file:
                    content = InMemory(location, file.read())
            decode(content, TRIAL, 3, "box")
            with content.open() as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            with content.open() as file, Image.open(file, formats=readable_formats()) as image:
                return ImageFacts(image.size, image.mode, image.format or "unknown", content.size, digest)
    except (UnreadableError, OSError) as error:
        return reason_for(error)
