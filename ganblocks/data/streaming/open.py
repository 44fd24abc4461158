"""Opens data sets in shards: tars by a path or a URL, and those of plugins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import PositiveInt

from blocks.families.networks import ConditionInput
from ganblocks.data.preparation.download import is_url
from ganblocks.data.preparation.options import MANIFEST
from ganblocks.data.streaming.images import Reading, StreamedImages
from ganblocks.data.streaming.rows import RowShard
from ganblocks.data.streaming.store import Shard, ShardStore
from ganblocks.data.streaming.summaries import SIZES, Summary, counted_summaries, stated_summaries
from ganblocks.data.streaming.tars import TarShard, find_tars
from ganblocks.errors import DataError
from registry import DataSet, DataSetOptions
from registry.cache_folder import folder
from registry.text import counted

SHARDS = "shards"
STREAMED_FROM = 1_000_000  # images in tars, above which these are streamed
TOGETHER = 4
FORMAT = "shards-1"  # of the folder of a store
LOCAL_INDEXES = 1000  # of shards on this machine, which stay in the cache; each takes about 100 bytes an image


class ShardOptions(DataSetOptions):
    """What `--data shards?name=value&name=value` accepts.

    Args:
        path: A tar, or a folder or URL with tars.
        together: Shards whose images are shuffled together.
    """

    path: str
    together: PositiveInt = TOGETHER


def shard_options(options: Mapping[str, str]) -> ShardOptions:
    """The options of `shards`.

    Raises:
        DataError: An option is unknown, is missing, or has an invalid value.
    """
    try:
        return ShardOptions.chosen(options)
    except ValueError as error:
        raise DataError(f"--data {SHARDS}: {error}") from None


class TarListing(NamedTuple):
    """Tars, and what files beside them state.

    Args:
        url: The tar or the folder of tars, in the notation of fsspec; a path for one on this machine.
        tars: The tars.
        stated: Their summaries; None if they are not stated.
    """

    url: str
    tars: list[TarShard]
    stated: list[Summary] | None


def list_tars(url: str, labels: ConditionInput | None) -> TarListing:
    """The tars at a URL.

    Raises:
        DataError: They are elsewhere and cannot be listed, or a file beside them is damaged.
    """
    tars = find_tars(url, labels)
    return TarListing(url, tars, stated_summaries(url, tars, labels) if tars else None)


def many_tars(source: str, labels: ConditionInput | None) -> TarListing | None:
    """The tars at a path or URL if the files beside them state more images than are indexed.

    Raises:
        DataError: As in `list_tars`.
    """
    if not is_url(source) and not any((Path(source) / name).exists() for name in (*SIZES, f"../{MANIFEST}")):
        return None
    listing = list_tars(source, labels)
    return listing if sum(summary.images for summary in listing.stated or ()) > STREAMED_FROM else None


def open_tars(
    listing: TarListing, name: str, reading: Reading, progress: Callable[[int, int], None], *, together: int = TOGETHER
) -> StreamedImages:
    """Images in tars.

    Args:
        listing: The tars, with the labels of `reading`.
        name: The data set's name in the log.
        reading: How they are read.
        progress: Called with the number of shards counted and their total.
        together: Shards whose images are shuffled together.

    Raises:
        DataError: There are no tars, or one cannot be read.
    """
    url, tars, stated = listing
    if not tars:
        raise DataError(f"--data {url}: there is no .tar; shards are tars as WebDataset has them")
    identity = [[tar.name, tar.num_bytes] for tar in tars]
    version = json.dumps([url, identity, [tar.changed for tar in tars], reading.labels])
    kept = 4 * together if is_url(url) else max(4 * together, LOCAL_INDEXES)
    return _opened(
        name,
        tars,
        stated,
        reading,
        progress,
        identity=json.dumps(identity),
        version=version,
        together=together,
        kept=kept,
    )


def open_rows(data_set: DataSet, name: str, reading: Reading, progress: Callable[[int, int], None]) -> StreamedImages:
    """Images in the shards of a plugin's data set.

    Raises:
        DataError: A shard cannot be read.
    """
    assert data_set.shards is not None
    shards = [RowShard(each, reading.labels) for each in data_set.shards]
    version = json.dumps([str(data_set.path), [shard.name for shard in shards], data_set.version, reading.labels])
    together = data_set.together or TOGETHER
    images = _opened(
        name, shards, None, reading, progress, identity="", version=version, together=together, kept=4 * together
    )
    images.license = data_set.license
    if data_set.class_names:
        images.class_names = data_set.class_names
    return images


def _opened(
    name: str,
    shards: Sequence[Shard],
    summaries: list[Summary] | None,
    reading: Reading,
    progress: Callable[[int, int], None],
    *,
    identity: str,
    version: str,
    together: int,
    kept: int,
) -> StreamedImages:
    store_folder = folder() / "data" / FORMAT / hashlib.sha256(version.encode()).hexdigest()[:16]
    store = ShardStore(shards, store_folder, kept)
    if summaries is None:
        summaries = counted_summaries(store, progress)
    if not any(summary.images for summary in summaries):
        skipped = next((f"; the first: {each}" for summary in summaries for each in summary.skipped), "")
        raise DataError(f"{name}: no sample with an image in {counted(len(shards), 'shard')}{skipped}")
    return StreamedImages(
        store,
        summaries,
        together,
        identity,
        reading,
        name=name,
        class_names=_class_names(summaries, name) if reading.labels == "classes" else (),
        skipped=tuple(each for summary in summaries for each in summary.skipped),
    )


def _class_names(summaries: Sequence[Summary], name: str) -> tuple[str, ...]:
    """Numbers up to the highest class, or the names of classes in alphabetical order."""
    labels = {label for summary in summaries for label, _ in summary.classes}
    numbers = [label for label in labels if isinstance(label, int)]
    if len(numbers) == len(labels):
        return tuple(map(str, range(max(numbers, default=-1) + 1)))
    if numbers:
        raise DataError(f"{name}: some classes are numbers in .cls files, others are folders; use one of them for all")
    return tuple(sorted(map(str, labels)))
