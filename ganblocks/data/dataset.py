"""Where training images come from: files and archives, or the built-in handwritten digits; always bytes of one shape.

The digits: UCI ML hand-written digits (Kaynak 1995) as scikit-learn ships them, 1,797 images of 8x8 pixels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL.Image import DecompressionBombError
from torch import Tensor
from torch.nn import functional as F

from ganblocks.data.captions import Captions, digit_captions
from ganblocks.data.decode import MODES, ResizeFilter, decode
from ganblocks.data.index import ConditionInput, Place, scan
from ganblocks.errors import DataError

IN_MEMORY = 2**30  # bytes of pixels up to which a data set is held in memory
NUM_TRAIN_DIGITS = 1437
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
        paths: Sequence[Place],
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


def open_data(
    source: str | Path | Images,
    *,
    resolution: int | tuple[int, int],
    image_channels: int = 3,
    cond_dim: int = 0,
    captions: bool = False,
    resize_filter: ResizeFilter = "lanczos",
    in_memory: int = IN_MEMORY,
) -> Images:
    """The data set of that name.

    Args:
        source: A folder, searched with all its subfolders; a .zip; a .tar, or a folder of such shards; `digits`; or
            images already opened.
        resolution: Height and width to bring the images to; one number for a square.
        image_channels: 1 for grey, 3 for RGB, 4 for RGBA.
        cond_dim: Number of classes that the generator knows; 0 for none. A folder's classes are its subfolders, unless
            a dataset.json says otherwise.
        captions: Whether the generator takes captions: from a .txt or .json beside each image, or a dataset.json.
        resize_filter: How images are made smaller or larger.
        in_memory: Bytes of pixels up to which the images are read at once and held in memory.

    Raises:
        DataError: There is no such data set, it has no image that can be read, or its classes are not the generator's.
    """
    resolution = (resolution, resolution) if isinstance(resolution, int) else resolution
    if image_channels not in MODES:
        raise DataError(
            f"images of {image_channels} channels cannot be read from files; {', '.join(map(str, MODES))} can"
        )
    images: Images
    if isinstance(source, Images):
        images = source
    elif str(source) == "digits" and not Path("digits").is_dir():
        images = digits("train", resolution, image_channels, labelled=cond_dim > 0)
        if captions:
            assert images.labels is not None
            images.captions = [digit_captions(digit) for digit in images.labels.tolist()]
    else:
        condition_input: ConditionInput | None = "captions" if captions else "classes" if cond_dim else None
        images = _files(Path(source), resolution, image_channels, resize_filter, condition_input)
        if len(images) * image_channels * resolution[0] * resolution[1] <= in_memory:
            images = images.load()
    _check(images, resolution, image_channels, 0 if captions else cond_dim)
    if captions and images.captions is None:
        raise DataError(f"the generator wants captions, {images.name} has none")
    return images


def digits(
    split: Literal["train", "held-out"],
    resolution: int | tuple[int, int] = 8,
    image_channels: int = 1,
    *,
    labelled: bool = True,
) -> ImagesInMemory:
    """Handwritten digits, white on black, scaled up; 1,437 to train with and 360 held out, always the same ones."""
    from sklearn.datasets import load_digits  # here, because it takes a second to import

    if image_channels not in (1, 3):
        raise DataError(f"digits are grey (1 channel) or grey as RGB (3), not of {image_channels} channels")
    raw, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(raw))
    chosen = order[:NUM_TRAIN_DIGITS] if split == "train" else order[NUM_TRAIN_DIGITS:]
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    side = min(height, width)
    values = torch.from_numpy(raw[chosen].reshape(-1, 1, 8, 8)).float() * (255 / 16)
    if side != 8:
        values = F.interpolate(values, (side, side), mode="bicubic", antialias=side < 8)
    top, left = (height - side) // 2, (width - side) // 2
    values = F.pad(values, (left, width - side - left, top, height - side - top))
    pixels = values.round().clamp(0, 255).to(torch.uint8).expand(-1, image_channels, -1, -1).contiguous()
    labels = torch.from_numpy(classes[chosen]).long() if labelled else None
    return ImagesInMemory(pixels, "digits", labels=labels, class_names=tuple("0123456789"))


def reason(error: BaseException) -> str:
    """Why an image cannot be read, without the path that PIL likes to repeat."""
    return "is not an image" if type(error).__name__ == "UnidentifiedImageError" else str(error) or type(error).__name__


def _files(
    source: Path,
    resolution: tuple[int, int],
    image_channels: int,
    resize_filter: ResizeFilter,
    condition_input: ConditionInput | None,
) -> ImagesInFiles:
    found = scan(source, condition_input)
    return ImagesInFiles(
        found.places,
        resolution,
        image_channels,
        resize_filter,
        str(source),
        labels=None if found.classes is None else torch.tensor(found.classes),
        class_names=found.class_names,
        captions=found.captions,
        skipped=tuple(Skipped(*each) for each in found.broken),
    )


def _check(images: Images, resolution: tuple[int, int], image_channels: int, cond_dim: int) -> None:
    if not len(images):
        raise DataError(f"{images.name} has no images")
    shape = (image_channels, *resolution)
    if isinstance(images, ImagesInMemory) and (images.pixels.dtype != torch.uint8 or images.pixels.shape[1:] != shape):
        raise DataError(
            f"{images.name}: {tuple(images.pixels.shape[1:])} of {images.pixels.dtype}, not bytes of shape {shape}"
        )
    if cond_dim and images.labels is None:
        raise DataError(f"the generator wants {cond_dim} classes, {images.name} has no labels")
    if cond_dim and len(images.class_names) != cond_dim:
        raise DataError(
            f"{images.name} has {len(images.class_names)} classes, the generator's cond_dim is {cond_dim}; "
            "they have to agree"
        )
