"""Data sets of images: in memory as one tensor, or in files that are decoded when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from assemblies.gan import ResizeFilter
from ganblocks.data.captions import Captions
from ganblocks.data.decode import decode
from ganblocks.data.preparation.progress_bar import progress_bar
from ganblocks.data.skipped import Skipped, UnreadableError, summarize_skipped
from registry import Location

CHUNK = 256  # images that are handed to the threads at once
# what a fingerprint depends on
NUM_HEADS = 1024  # files of which the first bytes are read, evenly spaced
HEAD = 4096  # bytes of each
PIXEL_BYTES = 2**28  # of images in memory, evenly spaced
LENGTH = 16  # of a fingerprint, in hexadecimal digits


class ImageRequest(NamedTuple):
    """What to read: the number of an image, whether it is mirrored, and a number in [0,1) that chooses its caption."""

    number: int
    flip: bool
    caption_choice: float


@dataclass(kw_only=True, eq=False, repr=False)
class Images:
    """A data set of images [image_channels, height, width] in bytes.

    Args:
        name: The data set's name in the log.
        labels: The class of each image; None without classes.
        class_names: Names of the classes.
        captions: The captions of each image; None without captions.
        skipped: Files that are not used, with the reasons.
        notes: Sentences about the data for the log: classes in use, labels that are not used.
        license: Licence and attribution in one line; empty if unknown.
    """

    name: str = "images in memory"
    labels: Int64[Tensor, " n"] | None = None
    class_names: tuple[str, ...] = ()
    captions: Sequence[Captions] | None = None
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    license: str = ""

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, index: int) -> UInt8[Tensor, "c h w"]:
        """One image.

        Raises:
            UnreadableError: The image cannot be read.
        """
        raise NotImplementedError

    def encoded_image(self, index: int) -> UInt8[Tensor, "k i j"] | None:
        """The image that is encoded, where `read` gives latents and batches contain their images; otherwise None."""
        return None

    def name_of(self, index: int) -> str:
        """What messages call an image."""
        return f"{self.name}, image {index}"

    @property
    def fingerprint(self) -> str:
        """A hash of the data, equal for equal images with equal labels in the same order."""
        raise NotImplementedError

    @property
    def summary(self) -> tuple[str, ...]:
        """The licence, the notes, and one line that counts the skipped files by reason."""
        sentences = (self.license, *self.notes) if self.license else self.notes
        if not self.skipped:
            return sentences
        return (*sentences, summarize_skipped(self.skipped, len(self) + len(self.skipped)))

    @property
    def has_classes(self) -> bool:
        return self.labels is not None

    def label(self, index: int) -> int | None:
        """The class of an image; None without classes."""
        return None if self.labels is None else int(self.labels[index])

    def caption(self, index: int, choice: float) -> str | None:
        """One of an image's captions, chosen by a number in [0,1); None without captions."""
        if self.captions is None:
            return None
        captions = self.captions[index]
        return captions[int(choice * len(captions))]

    def first_captions(self, count: int) -> list[str]:
        """The first captions of `count` images, evenly spaced over the data set."""
        assert self.captions is not None
        return [self.captions[index * len(self.captions) // count][0] for index in range(count)]

    def distinct_captions(self, limit: int) -> list[str] | None:
        """All captions, sorted; None if there are more than `limit`, or no captions."""
        if self.captions is None:
            return None
        captions = sorted({caption for each in self.captions for caption in each})
        return captions if len(captions) <= limit else None

    def subset(self, num: int, seed: int) -> list[int]:
        """`num` images drawn at random, each once, in ascending order."""
        return sorted(np.random.default_rng([seed, 2]).permutation(len(self))[:num].tolist())

    def spread(self, num: int) -> list[int]:
        """Up to `num` images from all over the data set, the same at each call."""
        return torch.linspace(0, len(self) - 1, min(num, len(self))).long().tolist()

    def draw_classes(self, num: int, draws: np.random.Generator) -> list[int]:
        """The classes of images drawn at random, with repetitions."""
        assert self.labels is not None
        return self.labels[draws.integers(len(self), size=num)].tolist()

    def draw_captions(self, num: int, draws: np.random.Generator) -> list[str]:
        """A caption of each of `num` images drawn at random, with repetitions."""
        choices = zip(draws.integers(len(self), size=num), draws.random(num), strict=True)
        return [str(self.caption(int(index), choice)) for index, choice in choices]

    def _all_labels(self) -> list[Any]:
        labels = [] if self.labels is None else self.labels.tolist()
        return [*self.class_names, *labels, *(self.captions or ())]


@dataclass(eq=False, repr=False)
class ImagesInMemory(Images):
    """Images in one tensor.

    Args:
        pixels: The images.
        file_fingerprint: The fingerprint of the files from which they were read; by default that of the pixels.
    """

    pixels: UInt8[Tensor, "n c h w"]
    file_fingerprint: str | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, index: int) -> UInt8[Tensor, "c h w"]:
        return self.pixels[index]

    @cached_property
    def fingerprint(self) -> str:
        return self.file_fingerprint or _fingerprint_of_pixels(self.pixels, self._all_labels())


@dataclass(eq=False, repr=False)
class ImagesInFiles(Images):
    """Images that are decoded when they are read.

    Args:
        locations: Where each lies.
        resolution: Height and width to which they are resized.
        image_channels: 1 for grey, 3 for RGB, 4 for RGBA.
        resize_filter: How they are resized.
    """

    locations: Sequence[Location]
    resolution: tuple[int, int]
    image_channels: int
    resize_filter: ResizeFilter

    def __len__(self) -> int:
        return len(self.locations)

    def read(self, index: int) -> UInt8[Tensor, "c h w"]:
        pixels = decode(self.locations[index], self.resolution, self.image_channels, self.resize_filter)
        return torch.from_numpy(pixels)

    def name_of(self, index: int) -> str:
        return str(self.locations[index])

    @cached_property
    def fingerprint(self) -> str:
        return _fingerprint_of_files(self.locations, self._all_labels())


def read_all(images: ImagesInFiles, title: str, *, progress: bool = True) -> Iterator[UInt8[Tensor, "c h w"] | Skipped]:
    """All images in their order, decoded by several threads; in place of one that cannot be read, the reason.

    Args:
        images: The data set.
        title: What the progress bar says.
        progress: Whether a progress bar is shown after a second, if standard error is a terminal.
    """

    def attempt(index: int) -> Tensor | Skipped:
        try:
            return images.read(index)
        except UnreadableError as error:
            return Skipped(images.name_of(index), str(error))

    with ThreadPoolExecutor() as pool, progress_bar(title, shown=progress) as bar:
        for first in range(0, len(images), CHUNK):
            last = min(first + CHUNK, len(images))
            yield from pool.map(attempt, range(first, last))
            bar(last, len(images))


def _fingerprint_of_files(locations: Sequence[Location], labels: Iterable[Any]) -> str:
    """A hash of the names and sizes of all files, the first bytes of up to 1,024 of them, and the labels."""
    names = (f"{location.inner}\0{_size(location)}\n" for location in locations)
    heads = map(_head, locations[:: 1 + len(locations) // NUM_HEADS])
    return _hash(chain(_encoded(names), heads, _encoded(map(repr, labels))))


def _fingerprint_of_pixels(pixels: UInt8[Tensor, "n c h w"], labels: Iterable[Any]) -> str:
    """A hash of the shape of images in memory, of their bytes (of some of them beyond 256 MiB), and of the labels."""
    images = (image.cpu().numpy().tobytes() for image in pixels[:: 1 + pixels.nbytes // PIXEL_BYTES])
    return _hash(chain(_encoded([repr(tuple(pixels.shape))]), images, _encoded(map(repr, labels))))


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:LENGTH]


def _encoded(texts: Iterable[str]) -> Iterator[bytes]:
    return (text.encode("utf-8", "backslashreplace") for text in texts)


def _size(location: Location) -> int:
    try:
        return location.size
    except OSError:
        return -1


def _head(location: Location) -> bytes:
    try:
        with location.open() as file:
            return file.read(HEAD)
    except Exception:  # whatever cannot be read is skipped later, with its reason
        return b""
