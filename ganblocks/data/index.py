"""Finds the images of a data set, in a folder, an archive or parquet files, and the class or captions of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from blocks.families.networks import ConditionInput
from ganblocks.data.archives import UNPACK, Sample, compressed, key_of, list_tar, list_zip, samples_of
from ganblocks.data.captions import Captions
from ganblocks.data.formats import NAMES, UNREAD_SUFFIXES, is_image, stem_of, suffix_of
from ganblocks.data.label_tables import COLUMNS, LabelTable, find_table, numbered
from ganblocks.data.labels import (
    LABEL_SUFFIXES,
    class_summary,
    read_captions,
    read_classes,
    split_hint,
    split_notes,
    unused_labels,
)
from ganblocks.data.locations import list_folder
from ganblocks.data.parquet import read_labels, read_parquet
from ganblocks.data.skipped import Skipped, UnreadableError
from ganblocks.data.streaming.open import SHARDS
from ganblocks.errors import DataError
from registry import DataSet, Location, catalogue
from registry.errors import nearest
from registry.text import counted

DIGITS = "digits"
NO_FILES: Mapping[str, Location] = {}
MAX_SUFFIXES = 3  # in a message
ACCEPTED = "--data takes a folder of images, a .zip, a .tar or .parquet file, or a data set by name"


class DatasetIndex(NamedTuple):
    """The images of a data set, and their labels where these are needed.

    Args:
        locations: Where each image lies.
        classes: The class of each image, from 0.
        class_names: Names of the classes.
        captions: The captions of each image.
        skipped: Files that are not used, with the reasons.
        notes: Sentences about the labels.
    """

    locations: Sequence[Location]
    classes: list[int] | None = None
    class_names: tuple[str, ...] = ()
    captions: list[Captions] | None = None
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


class Listing(NamedTuple):
    """The files of a data set.

    Args:
        source: What messages call it.
        samples: Images with the files that belong to each.
        others: Files that are no images.
        skipped: Files that are not used, with the reasons.
        notes: Sentences about the files.
        table: Labels by full paths, where they are not in files; by default a table among `others` is used.
    """

    source: str
    samples: list[Sample]
    others: list[Location]
    skipped: list[Skipped]
    notes: list[str]
    table: Callable[[ConditionInput], LabelTable] | None = None


class ManyImagesError(Exception):
    """A folder of tar shards has more images than are indexed."""


def data_set_names() -> list[str]:
    """The data sets that have a name: our own, and those of plugins."""
    return [DIGITS, SHARDS, *catalogue.data_sets()]


def list_images(source: Path, limit: int | None = None) -> Listing:
    """The files of a folder, a zip, tar shards or parquet files, in a fixed order.

    Raises:
        DataError: There are no images.
        ManyImagesError: Tar shards have more images than `limit`.
    """
    suffix = suffix_of(source.name)
    if not source.exists():
        path, query, _ = str(source).partition("?")
        if query and Path(path).exists():
            raise DataError(f"{path} is a path, which takes no options; omit what begins with ?")
        hint = nearest(path, data_set_names())
        raise DataError(f"there is no folder or file {source}; {ACCEPTED}; {hint}{catalogue.failed()}")
    if source.is_dir():
        return _list_folder(source, limit)
    if suffix == ".zip":
        return _listing(str(source), *list_zip(source))
    if suffix == ".tar":
        return _list_shards([source], source, limit)
    if suffix == ".parquet":
        return _list_parquet([source], source)
    if suffix in UNPACK:
        raise DataError(compressed(source, suffix))
    raise DataError(f"{source} is a file of another type; {ACCEPTED}")


def list_prepared(data_set: DataSet, source: str, limit: int | None = None) -> Listing:
    """The images of a data set that a plugin has prepared, or at a path.

    Raises:
        DataError: There are no images.
        ManyImagesError: Tar shards have more images than `limit`.
    """
    if data_set.images is None:
        return list_images(data_set.path, limit)
    if not data_set.images:
        raise DataError(f"{source} has no images")
    names = [str(image) for image in data_set.images]

    def table(condition_input: ConditionInput) -> LabelTable:
        labels: Sequence[Any] | None = data_set.captions if condition_input == "captions" else data_set.classes
        if labels is None:
            raise DataError(f"{source} has no {condition_input}, which the generator takes")
        class_names = data_set.class_names if condition_input == "classes" else ()
        return LabelTable(source, dict(zip(names, labels, strict=True)), class_names)

    return Listing(source, [Sample(image, NO_FILES) for image in data_set.images], [], [], [], table)


def _list_folder(folder: Path, limit: int | None) -> Listing:
    files, skipped = list_folder(folder)
    counts = Counter(suffix_of(file.inner) or "no suffix" for file in files)
    archives = [suffix for suffix in (".tar", ".parquet", ".zip", *UNPACK) if counts[suffix]]
    if any(is_image(file.inner) for file in files):
        listing = _listing(str(folder), files, skipped)
        if archives:
            kinds = ", ".join(f"{counts[suffix]} x {suffix}" for suffix in archives)
            listing.notes.append(f"archives beside the images are not read: {kinds}")
        return listing
    of_type = {suffix: [Path(str(file)) for file in files if suffix_of(file.inner) == suffix] for suffix in archives}
    if shards := of_type.get(".tar"):
        return _list_shards(sorted(shards), folder, limit)
    if parts := of_type.get(".parquet"):
        return _list_parquet(parts, folder)
    if zips := of_type.get(".zip"):
        raise DataError(f"{folder} has no image files but {len(zips)} .zip; pass one of them: --data {zips[0]}")
    if archives:
        raise DataError(compressed(of_type[archives[0]][0], archives[0]))
    if counts[".mdb"]:
        raise DataError(f"{folder} is an LMDB; pass it as --data 'lmdb?path={folder}'")
    kinds = ", ".join(f"{count} x {suffix}" for suffix, count in counts.most_common(MAX_SUFFIXES)) or "it is empty"
    raise DataError(f"{folder} has no image files ({NAMES}): {kinds}")


def _listing(source: str, files: Sequence[Location], skipped: list[Skipped]) -> Listing:
    """The files of a folder or a zip; files that share an image's name but for the suffix belong to it.

    Raises:
        DataError: There are no images.
    """
    others = [file for file in files if not is_image(file.inner)]
    if len(others) == len(files):
        raise DataError(f"{source} has no image files ({NAMES}), but {counted(len(others), 'other')}")
    by_name = {file.inner: file for file in others if suffix_of(file.inner) in LABEL_SUFFIXES}
    samples = [Sample(file, _files_beside(file, by_name)) for file in files if is_image(file.inner)]
    without_suffix = sum(not suffix_of(file.inner) for file in others)
    notes = [f"{counted(without_suffix, 'file')} without a suffix not read"] if without_suffix else []
    return Listing(source, samples, others, [*skipped, *_other_pictures(others)], notes)


def _other_pictures(files: Sequence[Location]) -> list[Skipped]:
    """Pictures in formats that are not read."""
    suffixes = [(file, suffix_of(file.inner)) for file in files]
    return [
        Skipped(str(file), f"{suffix} is not read: convert it to PNG or JPEG")
        for file, suffix in suffixes
        if suffix in UNREAD_SUFFIXES
    ]


def _files_beside(image: Location, by_name: Mapping[str, Location]) -> Mapping[str, Location]:
    if not by_name:
        return NO_FILES
    names = {suffix: stem_of(image.inner) + suffix for suffix in LABEL_SUFFIXES}
    return {suffix: by_name[name] for suffix, name in names.items() if name in by_name} or NO_FILES


def _list_shards(shards: list[Path], source: Path, limit: int | None) -> Listing:
    """Samples in the order of the shards and of their members."""
    listing = Listing(str(source), [], [], [], split_notes(shard.stem for shard in shards))
    several: list[tuple[str, int]] = []
    for shard in shards:
        members, skipped = list_tar(shard)
        samples = list(samples_of(members))
        keys = Counter(key_of(sample.image.inner) for sample in samples)
        several += [(f"{shard}/{key}", count) for key, count in keys.items() if count > 1]
        listing.samples.extend(samples)
        if limit is not None and len(listing.samples) > limit:
            raise ManyImagesError
        listing.skipped.extend([*skipped, *_other_pictures(members)])
    if not listing.samples:
        reason = f"; the first: {listing.skipped[0]}" if listing.skipped else ""
        raise DataError(f"{source}: no sample with an image in {counted(len(shards), 'shard')}{reason}")
    if several:
        name, count = several[0]
        listing.notes.append(
            f"{counted(len(several), 'sample')} with more than one image, such as {name} with {count}; each is used"
        )
    return listing


def _list_parquet(files: list[Path], source: Path) -> Listing:
    tables = [read_parquet(file) for file in files]

    def table(condition_input: ConditionInput) -> LabelTable:
        columns = COLUMNS[condition_input]
        labels: dict[str, Any] = {}
        class_names: tuple[str, ...] = ()
        for file, content in zip(files, tables, strict=True):
            if (column := read_labels(file, columns)) is not None:
                class_names = class_names or column.class_names
                labels.update((str(cell), label) for cell, label in zip(content, column.labels, strict=True))
        if not labels:
            raise DataError(
                f"{source} has no column of {condition_input}, which the generator takes; it may be called "
                f"{', '.join(columns)}"
            )
        label_table = LabelTable(str(source), labels, class_names)
        return numbered(label_table) if condition_input == "classes" else label_table

    samples = [Sample(cell, NO_FILES) for cells in tables for cell in cells]
    if not samples:
        raise DataError(f"{source} has no rows")
    return Listing(str(source), samples, [], [], split_notes(file.stem for file in files), table)


def labelled(listing: Listing, condition_input: ConditionInput | None, num_classes: int = 0) -> DatasetIndex:
    """The images of a listing with the labels that are needed; images with labels that cannot be read are skipped.

    Raises:
        DataError: Labels are missing, contradictory or outside of the classes.
    """
    samples, source, notes = listing.samples, listing.source, [*listing.notes]
    table = listing.table(condition_input) if listing.table and condition_input else None
    images = [sample.image for sample in samples]
    if condition_input is None:
        notes += unused_labels(samples, listing.others, None, "")
        return DatasetIndex(images, skipped=tuple(listing.skipped), notes=tuple(notes))
    names = [str(image) for image in images] if table else [image.inner for image in images]
    table = table or find_table(listing.others, names, condition_input)
    if table and (missing := table.labels.keys() - set(names)):
        notes.append(f"{table.source} lists {counted(len(missing), 'image')} not in the data, such as {min(missing)}")
    values: Sequence[int | Captions | UnreadableError]
    class_names: tuple[str, ...] = ()
    if condition_input == "captions":
        values = read_captions(samples, names, table, source)
        used = table.source if table else ".txt, .caption or .json files"
    else:
        values, class_names, used = read_classes(samples, names, table, num_classes, source)
        notes.append(f"{class_summary(class_names)} from {used}{split_hint(class_names, source)}")
    unused = [file for file in listing.others if table is None or file.inner not in table.files]
    notes += unused_labels(samples, unused, condition_input, used)
    kept = [index for index, value in enumerate(values) if not isinstance(value, UnreadableError)]
    skipped = [
        Skipped(str(image), str(value))
        for image, value in zip(images, values, strict=True)
        if isinstance(value, UnreadableError)
    ]
    if not kept:
        raise DataError(f"{source}: none of {len(images)} images has {condition_input} that can be read: {skipped[0]}")
    rows: list[Any] = [values[index] for index in kept]
    return DatasetIndex(
        [images[index] for index in kept],
        classes=rows if condition_input == "classes" else None,
        class_names=class_names,
        captions=rows if condition_input == "captions" else None,
        skipped=(*listing.skipped, *skipped),
        notes=tuple(notes),
    )
