"""Opens the data set that a training names: a folder, an archive, the built-in digits, or images opened before."""

from __future__ import annotations

from pathlib import Path

import torch

from ganblocks.data.dataset import Images, ImagesInFiles, ImagesInMemory, Skipped
from ganblocks.data.decode import MODES, ResizeFilter
from ganblocks.data.digits import digit_captions, digits
from ganblocks.data.index import ConditionInput, scan
from ganblocks.errors import DataError

IN_MEMORY = 2**30  # bytes of pixels up to which a data set is held in memory


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


def _files(
    source: Path,
    resolution: tuple[int, int],
    image_channels: int,
    resize_filter: ResizeFilter,
    condition_input: ConditionInput | None,
) -> ImagesInFiles:
    found = scan(source, condition_input)
    return ImagesInFiles(
        found.locations,
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
