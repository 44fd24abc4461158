"""What has to be known of shards before a training: how many images each has, and of which classes.

Files beside the shards state it, or each shard is read once, and what it has is remembered in the cache.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import fsspec

from blocks.families.networks import ConditionInput
from ganblocks.data.formats import suffix_of
from ganblocks.data.preparation.options import MANIFEST
from ganblocks.data.skipped import Skipped
from ganblocks.data.streaming.store import ShardStore
from ganblocks.data.streaming.tars import TarShard
from ganblocks.errors import DataError

SIZES = ("sizes.json", "_info.json")  # of WebDataset's and of timm's tools
REPORT = "_stats.json"  # ending of img2dataset's report on a shard
REMEMBERED = "summaries.jsonl"


class Summary(NamedTuple):
    """What is known of a shard.

    Args:
        images: Its number of images.
        classes: How many of them each class has; empty without classes.
        skipped: Its members that are not used.
        digest: As in `ShardIndex`.
    """

    images: int
    classes: tuple[tuple[int | str, int], ...] = ()
    skipped: tuple[Skipped, ...] = ()
    digest: str = ""


def stated_summaries(url: str, tars: Sequence[TarShard], labels: ConditionInput | None) -> list[Summary] | None:
    """The summaries of shards that a file beside them states; of these files only that of `data prepare` has classes.

    Raises:
        DataError: A file beside the shards is damaged.
    """
    system, path = fsspec.core.url_to_fs(url)
    folder = posixpath.dirname(path) if suffix_of(path) == ".tar" else path.rstrip("/")
    files = {MANIFEST: posixpath.join(posixpath.dirname(folder), MANIFEST)}
    files |= {name: posixpath.join(folder, name) for name in SIZES}
    for kind, file in files.items():
        if not system.exists(file) or (labels == "classes" and kind != MANIFEST):
            continue
        with _reading(file):
            summaries = READERS[kind](json.loads(system.cat_file(file)), posixpath.basename(folder))
        if all(tar.name in summaries for tar in tars):
            stated = [summaries[tar.name] for tar in tars]
            if labels != "classes" or all(summary.classes for summary in stated if summary.images):
                return stated
    reports = [posixpath.join(folder, tar.name.removesuffix(".tar") + REPORT) for tar in tars]
    if labels == "classes" or not system.exists(reports[0]):
        return None
    with _reading(f"{reports[0]} or one like it"):
        contents = system.cat(reports)
        return [Summary(int(json.loads(contents[report])["successes"])) for report in reports]


@contextmanager
def _reading(file: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of the file system, or because the file has another content
        raise DataError(f"{file} is not what its name says: {type(error).__name__}: {error}; remove it") from error


def counted_summaries(store: ShardStore, progress: Callable[[int, int], None]) -> list[Summary]:
    """The summaries of shards, each of which is read once; they are remembered in the folder of the store.

    Args:
        store: The shards.
        progress: Called with the number of shards done and their total.

    Raises:
        DataError: A shard cannot be read.
    """
    path = store.folder / REMEMBERED
    summaries = _remembered(path)
    for number in range(len(store.shards)):
        if number not in summaries:
            summary = _summary_of(store, number)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([number, *summary]) + "\n")
            summaries[number] = summary
        progress(number + 1, len(store.shards))
    return [summaries[number] for number in range(len(store.shards))]


def _summary_of(store: ShardStore, number: int) -> Summary:
    index = store.index(number)
    classes = Counter(row.label for row in index.rows if row.label is not None)
    return Summary(len(index.rows), tuple(classes.items()), index.skipped, index.digest)


def _remembered(path: Path) -> dict[int, Summary]:
    summaries = {}
    with suppress(FileNotFoundError):
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # the last line of a process that was killed
                number, images, classes, skipped, digest = json.loads(line)
                pairs = tuple((label, count) for label, count in classes)
                summaries[number] = Summary(images, pairs, tuple(Skipped(*each) for each in skipped), digest)
    return summaries


def _of_manifest(content: Any, split: str) -> dict[str, Summary]:
    if not isinstance(content, dict) or content.get("format") != "ganblocks-data-1":
        return {}
    parts = [(posixpath.split(each["file"]), each) for each in content["shards"]]
    return {
        name: Summary(each["images"], tuple(each.get("classes", {}).items()))
        for (part, name), each in parts
        if part == split
    }


def _of_sizes(content: Any, split: str) -> dict[str, Summary]:
    return {name: Summary(int(count)) for name, count in content.items()}


def _of_info(content: Any, split: str) -> dict[str, Summary]:
    parts = [each for each in content["splits"].values() if "shard_lengths" in each]
    pairs = [pair for each in parts for pair in zip(each["filenames"], each["shard_lengths"], strict=True)]
    return {name: Summary(int(count)) for name, count in pairs}


READERS = {MANIFEST: _of_manifest, "sizes.json": _of_sizes, "_info.json": _of_info}
