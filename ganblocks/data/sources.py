"""Opens a data set: a folder, an archive, one that has a name, or images that were opened before.

A name may have options: `digits?split=held-out`. Besides the built-in digits, plugins register named data sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl

import torch

from assemblies.gan import ResizeFilter
from ganblocks.data.dataset import CHUNK, Images, ImagesInFiles, ImagesInMemory, read_all
from ganblocks.data.decode import MODES
from ganblocks.data.digits import digit_captions, digits
from ganblocks.data.encoded.files import LatentImages, is_latents, open_latents
from ganblocks.data.index import DIGITS, Listing, ManyImagesError, data_set_names, labelled, list_prepared
from ganblocks.data.labels import class_summary, split_hint
from ganblocks.data.preparation.download import download, is_url
from ganblocks.data.preparation.named import prepare_named
from ganblocks.data.preparation.progress_bar import progress_bar
from ganblocks.data.skipped import Skipped
from ganblocks.data.streaming.images import Reading, StreamedCaptions
from ganblocks.data.streaming.open import (
    SHARDS,
    STREAMED_FROM,
    list_tars,
    many_tars,
    open_rows,
    open_tars,
    shard_options,
)
from ganblocks.errors import DataError
from registry import DataSet
from registry.text import printable

IN_MEMORY = 2**30  # bytes of pixels up to which a data set is held in memory
MAX_FAILURES = 1000  # unreadable files at the beginning after which the rest is not tried


class DataName(NamedTuple):
    """The name of a data set and its options."""

    name: str
    options: Mapping[str, str]


def data_name(source: str) -> DataName | None:
    """The name and options of a data set such as `digits?split=held-out`; None if the text is a path.

    Raises:
        DataError: The options are no list of `name=value`.
    """
    name, _, query = source.partition("?")
    if Path(source).exists() or name not in data_set_names():
        return None
    try:
        return DataName(name, dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))))
    except ValueError:
        raise DataError(f"{source}: options of a data set are written as {name}?name=value&name=value") from None


def can_be_opened(name: str) -> bool:
    """Whether the name of a data set opens it again; images passed from Python have only a title."""
    return Path(name).exists() or data_name(name) is not None or is_url(name)


def open_data(
    source: str | Path | Images,
    *,
    resolution: int | tuple[int, int],
    image_channels: int = 3,
    cond_dim: int = 0,
    captions: bool = False,
    resize_filter: ResizeFilter = "lanczos",
    in_memory: int = IN_MEMORY,
    progress: bool = True,
) -> Images:
    """Open a data set.

    Args:
        source: A folder, which is searched with all its subfolders; a .zip; a .tar or .parquet file, or a folder of
            such files; the URL of these that fsspec opens; a folder of latents; `digits` or the name of another data
            set, with options as in `digits?split=held-out`; `shards?path=...` for tar shards that are read one after
            the other, as those with more than a million images are; or images that were opened before.
        resolution: Height and width in pixels to which the images are resized; one number for a square.
        image_channels: 1 for grey, 3 for RGB, 4 for RGBA.
        cond_dim: Number of the generator's classes; 0 for none. A folder's classes are its subfolders, unless a
            dataset.json or a metadata file has others.
        captions: Whether the generator takes captions: from a .txt or .json file beside each image, a dataset.json or a
            metadata file.
        resize_filter: Filter for resizing: lanczos, bicubic, bilinear or box.
        in_memory: Bytes of pixels up to which all images are read at once and held in memory.
        progress: Whether a progress bar is shown while many images are read, if standard error is a terminal.

    Raises:
        DataError: There is no such data set, it has no image that can be read, or it lacks the generator's classes or
            captions.
    """
    resolution = (resolution, resolution) if isinstance(resolution, int) else resolution
    if image_channels not in MODES and not is_latents(source):
        raise DataError(
            f"images of {image_channels} channels cannot be read from files; {', '.join(map(str, MODES))} can"
        )
    num_classes = 0 if captions else cond_dim
    images: Images
    if isinstance(source, Images):
        images = source
    elif is_latents(source):
        images = open_latents(source)
    elif (named := data_name(str(source))) and named.name == DIGITS:
        split = _digits_split(named.options)
        images = digits(split, resolution, image_channels, labelled=captions or cond_dim > 0)
        images.name = str(source)
        if captions:
            assert images.labels is not None
            images.captions = [digit_captions(digit) for digit in images.labels.tolist()]
    else:
        reading = Reading(
            "captions" if captions else "classes" if cond_dim else None, resolution, image_channels, resize_filter
        )
        images = _open_files(str(source), reading, num_classes, progress=progress)
        if isinstance(images, ImagesInFiles) and len(images) * image_channels * math.prod(resolution) <= in_memory:
            images = load(images, progress=progress)
    _check(images, (image_channels, *resolution), num_classes)
    if captions and images.captions is None:
        raise DataError(f"{images.name} has no captions, which the generator takes")
    return images


def _open_files(source: str, reading: Reading, num_classes: int, *, progress: bool) -> Images:
    """Images that are decoded when they are read, of files that are all listed, or of shards."""
    named = data_name(source)
    with progress_bar("counting images of shards", shown=progress) as bar:
        if named is not None and named.name == SHARDS:
            chosen = shard_options(named.options)
            return open_tars(list_tars(chosen.path, reading.labels), source, reading, bar, together=chosen.together)
        if named is None and (many := many_tars(source, reading.labels)) is not None:
            return open_tars(many, source, reading, bar)
        data_set = _prepared(source, reading.resolution, reading.image_channels, progress=progress)
        if data_set.shards is not None:
            return open_rows(data_set, source, reading, bar)
        try:
            listing = list_prepared(data_set, source, STREAMED_FROM)
        except ManyImagesError:
            return open_tars(list_tars(str(data_set.path), reading.labels), source, reading, bar)
    index = labelled(listing, reading.labels, num_classes)
    return ImagesInFiles(
        index.locations,
        reading.resolution,
        reading.image_channels,
        reading.resize_filter,
        name=source,
        labels=None if index.classes is None else torch.tensor(index.classes),
        class_names=index.class_names,
        captions=index.captions,
        skipped=index.skipped,
        notes=index.notes,
        license=data_set.license,
    )


def list_source(
    source: str | Path, resolution: tuple[int, int] = (256, 256), image_channels: int = 3, *, progress: bool = True
) -> tuple[Listing, str]:
    """The files of a folder, an archive, a URL or a named data set of a plugin, and its license.

    Args:
        source: As in `open_data`.
        resolution: Height and width of the images that are needed, for data sets that are rendered.
        image_channels: Their channels.
        progress: Whether a progress bar is shown while files are copied.

    Raises:
        DataError: There is no such data set, it has no images, or it is streamed.
    """
    data_set = _prepared(str(source), resolution, image_channels, progress=progress)
    if data_set.shards is not None:
        raise DataError(f"{source} is streamed, and single files of it cannot be listed; omit its option streaming")
    return list_prepared(data_set, str(source)), data_set.license


def load(images: ImagesInFiles, *, progress: bool = True) -> ImagesInMemory:
    """All images of a data set, decoded by several threads. Those that cannot be read are skipped.

    Args:
        images: The data set.
        progress: Whether a progress bar is shown after a second, if standard error is a terminal.

    Raises:
        DataError: No image can be read, or none of the first 1,000.
    """
    pixels = torch.empty(len(images), images.image_channels, *images.resolution, dtype=torch.uint8)
    kept: list[int] = []
    skipped: list[Skipped] = []
    for index, image in enumerate(read_all(images, "reading images", progress=progress)):
        if isinstance(image, Skipped):
            skipped.append(image)
        else:
            pixels[len(kept)] = image
            kept.append(index)
        if not kept and len(skipped) >= MAX_FAILURES and len(skipped) % CHUNK == 0:
            break
    if not kept:
        tried = (
            f"the {len(images)}" if len(skipped) == len(images) else f"the first {len(skipped):,} of {len(images):,}"
        )
        raise DataError(f"none of {tried} image files in {images.name} can be read; the first: {skipped[0]}")
    return ImagesInMemory(
        pixels[: len(kept)],
        file_fingerprint=images.fingerprint,
        name=images.name,
        labels=None if images.labels is None else images.labels[kept],
        class_names=images.class_names,
        captions=None if images.captions is None else [images.captions[index] for index in kept],
        skipped=(*images.skipped, *skipped),
        notes=images.notes,
        license=images.license,
    )


def _digits_split(options: Mapping[str, str]) -> Literal["train", "held-out"]:
    split = options.get("split", "train")
    if options.keys() - {"split"} or split not in ("train", "held-out"):
        query = "&".join(f"{name}={value}" for name, value in options.items())
        raise DataError(f"digits?{printable(query)}: the only option is split=train or split=held-out")
    return "held-out" if split == "held-out" else "train"


def _prepared(source: str, resolution: tuple[int, int], image_channels: int, *, progress: bool) -> DataSet:
    """A data set of a plugin, or the path of another one, which is copied to this machine if it is elsewhere."""
    named = data_name(source)
    path = source
    if named is not None and named.name == SHARDS:
        path = shard_options(named.options).path
    elif named is not None and named.name == DIGITS:
        raise DataError(
            f"--data {DIGITS}: the images come with scikit-learn and have no files; give a folder of images"
        )
    elif named is not None:
        return prepare_named(named.name, max(resolution), image_channels, named.options)
    if is_url(path):
        with progress_bar("copying bytes", shown=progress) as bar:
            return DataSet(download(path, bar))
    return DataSet(Path(path))


def _check(images: Images, shape: tuple[int, int, int], num_classes: int) -> None:
    if not len(images):
        raise DataError(f"{images.name} has no images")
    if isinstance(images, ImagesInMemory) and (images.pixels.dtype != torch.uint8 or images.pixels.shape[1:] != shape):
        raise DataError(
            f"{images.name}: {tuple(images.pixels.shape[1:])} of {images.pixels.dtype}, not bytes of shape {shape}"
        )
    if isinstance(images, LatentImages) and images.manifest.latent_shape != shape:
        raise DataError(
            f"{images.name} has latents of shape {images.manifest.latent_shape}, not {shape}; encode the images with "
            "an autoencoder and a resolution that give these"
        )
    for kind, labels in (("labels", images.labels), ("captions", images.captions)):
        if labels is not None and len(labels) != len(images):
            raise DataError(f"{images.name} has {len(images)} images and {len(labels)} {kind}; give one for each")
    if isinstance(images.captions, StreamedCaptions):
        return
    if images.captions is not None and not all(images.captions):
        raise DataError(f"{images.name}: image {[*map(bool, images.captions)].index(False)} has no caption")
    if not num_classes:
        return
    if not images.has_classes:
        raise DataError(f"{images.name} has no classes; the generator takes {num_classes} (cond_dim)")
    if len(images.class_names) != num_classes:
        raise DataError(
            f"{images.name} has {class_summary(images.class_names)}, the generator's cond_dim is {num_classes}; they "
            f"have to be equal{split_hint(images.class_names, images.name)}"
        )
    if images.labels is None:
        return
    lowest, highest = int(images.labels.min()), int(images.labels.max())
    if lowest < 0 or highest >= num_classes:
        raise DataError(f"{images.name} has labels from {lowest} to {highest}; the {num_classes} classes begin at 0")
