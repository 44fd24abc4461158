"""Converts a data set into tar shards of one resolution, with a held-out split and a manifest.

The layout: `train/00000.tar`, ..., `held-out/00000.tar`, ..., and `manifest.json` with the settings, the shards and
their SHA-256. A shard is a WebDataset, https://github.com/webdataset/webdataset: the files of a sample share a name,
`<class>/<number>.png` with `.txt` of captions; `--data OUT/train` reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ganblocks.data.index import labelled
from ganblocks.data.preparation.check import labels_of
from ganblocks.data.preparation.options import MANIFEST, PrepareOptions
from ganblocks.data.preparation.shards import Sample, ShardRecord, make_shard, record_of
from ganblocks.data.skipped import Skipped
from ganblocks.data.sources import list_source
from ganblocks.errors import DataError
from ganblocks.options import accepts
from registry import Location
from registry.spec_file import write_atomically

TRAIN, HELD_OUT = "train", "held-out"


class Manifest(BaseModel):
    """The content of `manifest.json`.

    Args:
        format: Version of the layout.
        source: The data set that was converted.
        num_files: Number of its images, those that could not be read included.
        listing: Hash of their paths and sizes.
        options: How it was converted.
        complete: Whether all shards are there.
        images: Number of images in each split.
        class_names: Names of the classes; empty without classes.
        captions: Whether images have captions.
        shards: The files.
        skipped: Images that could not be read, with the reasons.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["ganblocks-data-1"] = "ganblocks-data-1"
    source: str
    num_files: int
    listing: str
    options: PrepareOptions
    complete: bool = False
    images: dict[str, int] = {}
    class_names: list[str] = []
    captions: bool = False
    shards: list[ShardRecord] = []
    skipped: list[tuple[str, str]] = []


@accepts(PrepareOptions)
def prepare_data(
    source: str | Path,
    out: str | Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    options: PrepareOptions,
) -> Manifest:
    """Convert a folder or an archive of images. The same source and options give the same bytes.

    A conversion that was interrupted continues: shards appear under their names when they are complete.

    Args:
        source: A folder, a .zip, tar shards, parquet files, a URL, or the name of a plugin's data set.
        out: The folder to write.
        progress: Called with the number of images done and their total.

    Raises:
        DataError: There are no images, none can be read, or `out` holds a data set of other options.
        OSError: A file cannot be written.
    """
    folder = Path(out)
    if folder.is_file():
        raise DataError(f"{folder} is a file; give a folder")
    listing, _ = list_source(source, (options.resolution, options.resolution), options.image_channels)
    locations = labelled(listing, None).locations
    classes, _ = labels_of(listing, "classes")
    captions, _ = labels_of(listing, "captions")
    manifest = Manifest(
        source=str(source),
        num_files=len(locations),
        listing=_listing(locations, classes, captions),
        options=options,
        class_names=sorted(set((classes or {}).values())),
        captions=captions is not None,
    )
    if (existing := _existing(folder, manifest)) is not None and existing.complete:
        return existing
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / MANIFEST, manifest.model_dump_json(indent=1).encode())
    samples: dict[str, list[Sample]] = {TRAIN: [], HELD_OUT: []}
    unlabelled: list[tuple[str, str]] = []
    for number, location in enumerate(locations):
        path = str(location)
        if missing := [
            kind for kind, labels in (("class", classes), ("caption", captions)) if labels and path not in labels
        ]:
            unlabelled.append((path, f"its {missing[0]} cannot be read"))
            continue
        name = f"{classes[path]}/{number:08}" if classes else f"{number:08}"
        sample = Sample(location, name, captions[path] if captions else ())
        samples[HELD_OUT if _share(location.inner) < options.holdout else TRAIN].append(sample)
    shards = [
        (folder / split / f"{index:05}.tar", part)
        for split, whole in samples.items()
        for index, part in enumerate(_parts(whole, options.num_shards if split == TRAIN else _num_held_out(options)))
    ]
    records = _converted(shards, options, progress)
    counts = {split: sum(each.images for each in records if each.file.startswith(split)) for split in samples}
    if not any(counts.values()):
        raise DataError(
            f"none of the {len(locations)} image files in {source} can be read; the first: {_first(records)}"
        )
    done = manifest.model_copy(
        update={
            "complete": True,
            "images": {split: count for split, count in counts.items() if count},
            "shards": [record.model_copy(update={"skipped": []}) for record in records],
            "skipped": [*unlabelled, *(skipped for record in records for skipped in record.skipped)],
        }
    )
    write_atomically(folder / MANIFEST, done.model_dump_json(indent=1).encode())
    for file, _ in shards:
        record_of(file).unlink(missing_ok=True)
    return done


def _converted(
    shards: Sequence[tuple[Path, Sequence[Sample]]],
    options: PrepareOptions,
    progress: Callable[[int, int], None],
) -> list[ShardRecord]:
    """The records of all shards, of which missing ones are made by several processes."""
    records: dict[Path, ShardRecord] = {}
    total, done = sum(len(part) for _, part in shards), 0
    for file, part in shards:
        if file.exists() and record_of(file).exists():
            records[file] = ShardRecord.model_validate_json(record_of(file).read_bytes())
            done += len(part)
    progress(done, total)
    with ProcessPoolExecutor(options.workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        futures = {
            pool.submit(make_shard, file, part, options): (file, part) for file, part in shards if file not in records
        }
        try:
            for future in as_completed(futures):
                file, part = futures[future]
                records[file] = future.result()
                progress(done := done + len(part), total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [records[file] for file, _ in shards]


def _existing(folder: Path, manifest: Manifest) -> Manifest | None:
    """The manifest in the folder.

    Raises:
        DataError: The folder has other files, or a data set of another source or of other options.
    """
    path = folder / MANIFEST
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise DataError(f"{folder} is not empty; choose a new folder")
        return None
    try:
        existing = Manifest.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise DataError(f"{path} is no manifest of a prepared data set ({error}); choose a new folder") from None
    before = existing.options.model_dump(exclude={"workers"}) | {"source": existing.source, "listing": existing.listing}
    now = manifest.options.model_dump(exclude={"workers"}) | {"source": manifest.source, "listing": manifest.listing}
    if differing := [f"{name} {before[name]} there, {now[name]} now" for name in now if before[name] != now[name]]:
        raise DataError(f"{folder} was prepared differently: {'; '.join(differing)}; choose a new folder")
    return existing


def _listing(locations: Sequence[Location], *labels: Mapping[str, Any] | None) -> str:
    """A hash of paths, sizes and labels."""
    digest = hashlib.sha256()
    for location in locations:
        row = [location.inner, location.size, *((each or {}).get(str(location)) for each in labels)]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def _share(path: str) -> float:
    """A number in [0,1) that the path determines."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8]) / 2**64


def _num_held_out(options: PrepareOptions) -> int:
    return max(1, round(options.num_shards * options.holdout))


def _parts(samples: Sequence[Sample], count: int) -> list[Sequence[Sample]]:
    """The samples in `count` parts of nearly equal size, none of them empty."""
    count = min(count, len(samples))
    bounds = [len(samples) * index // count for index in range(count + 1)] if count else [0]
    return [samples[first:last] for first, last in pairwise(bounds)]


def _first(records: Sequence[ShardRecord]) -> Skipped:
    return next(Skipped(*each) for record in records for each in record.skipped)
