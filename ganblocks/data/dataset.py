"""Data sets of images: in memory as one tensor, or in files that are decoded when they are read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from jaxtyping import Int64, UInt8
from PIL.Image import DecompressionBombError
from torch import Tensor

from ganblocks.data.captions import Captions
from ganblocks.data.decode import ResizeFilter, decode
from ganblocks.data.index import Location
from ganblocks.errors import DataError

# what PIL raises for files that are no images, are cut short, or unpack to something absurd
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, zlib.error, DecompressionBombError)


class Skipped(NamedTuple):
    """An image that could not be read, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Images:
    """A data set of images [image_channels, height, width] in bytes.

    Args:
        name: What to call it in the log.
        labels: The class of each image; None without classes.
        class_names: Names of the classes.
        captions: What may be said of each image; None without captions.
        skipped: Files that were found unreadable when the data set was opened.
    """

    def __init__(
        self,
        name: str,
        labels: Int64[Tensor, " n"] | None = None,
        class_names: tuple[str, ...] = (),
        skipped: tuple[Skipped, ...] = (),
        captions: Sequence[Captions] | None = None,
    ) -> None:
        self.name = name
        self.labels = labels
        self.class_names = class_names
        self.captions = captions
        self.skipped = skipped

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, index: int) -> UInt8[Tensor, "c h w"]:
        """One image; raises one of `UNREADABLE` where it cannot be read."""
        raise NotImplementedError

    def caption(self, index: int, choice: float) -> str | None:
        """One of an image's captions, by a number in [0,1); None without captions."""
        if self.captions is None:
            return None
        found = self.captions[index]
        return found[int(choice * len(found))]

    def first_captions(self, count: int) -> list[str]:
        """So many captions, of images all over the data set."""
        assert self.captions is not None
        return [self.captions[index * len(self.captions) // count][0] for index in range(count)]


class ImagesInMemory(Images):
    """Images that are all there, as one tensor."""

    def __init__(self, pixels: UInt8[Tensor, "n c h w"], name: str = "images in memory", **more: Any) -> None:
        super().__init__(name, **more)
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, index: int) -> UInt8[Tensor, "c h w"]:
        return self.pixels[index]


class ImagesInFiles(Images):
    """Images that are decoded when they are read."""

    def __init__(
        self,
        paths: Sequence[Location],
        resolution: tuple[int, int],
        image_channels: int,
        resize_filter: ResizeFilter,
        name: str,
        **more: Any,
    ) -> None:
        super().__init__(name, **more)
        self.paths = paths
        self.shape = (resolution, image_channels, resize_filter)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> UInt8[Tensor, "c h w"]:
        return torch.from_numpy(decode(self.paths[index], *self.shape))

    def load(self) -> ImagesInMemory:
        """All images, decoded side by side; those that cannot be read are left out and named."""

        def attempt(index: int) -> Tensor | Skipped:
            try:
                return self.read(index)
            except UNREADABLE as error:
                return Skipped(str(self.paths[index]), reason(error))

        with ThreadPoolExecutor() as pool:
            found = list(pool.map(attempt, range(len(self))))
        good = [index for index, image in enumerate(found) if isinstance(image, Tensor)]
        skipped = tuple(image for image in found if isinstance(image, Skipped))
        if not good:
            raise DataError(f"none of the {len(self)} image files in {self.name} can be read; the first: {skipped[0]}")
        pixels = torch.stack([found[index] for index in good])  # type: ignore[misc]
        labels = None if self.labels is None else self.labels[good]
        captions = None if self.captions is None else [self.captions[index] for index in good]
        more: dict[str, Any] = {"class_names": self.class_names, "skipped": (*self.skipped, *skipped)}
        return ImagesInMemory(pixels, self.name, labels=labels, captions=captions, **more)


def reason(error: BaseException) -> str:
    """Why an image cannot be read, without the path that PIL likes to repeat."""
    return "is not an image" if type(error).__name__ == "UnidentifiedImageError" else str(error) or type(error).__name__
