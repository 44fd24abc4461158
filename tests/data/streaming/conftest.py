"""Data sets in shards that the tests read, and what they count."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import fsspec
import pytest

from ganblocks.data.loader import batches, sampler_of
from ganblocks.data.sources import open_data
from ganblocks.data.streaming.tars import TarShard
from tests.data.files import png, write_tar

SIZES = (5, 3, 6, 4, 2, 5)  # images in each shard; the shade of an image is 8 times its number


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    use_cache(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache"


def use_cache(monkeypatch, folder: Path) -> None:
    """Let shards be cached in a folder, as on another machine; compiled kernels stay where they are."""
    monkeypatch.setattr("ganblocks.data.streaming.open.folder", lambda: folder)


@pytest.fixture
def tars(tmp_path):
    """Six shards of 25 images in two classes, by folders, each with a caption."""
    return write_shards(tmp_path / "tars")


@pytest.fixture
def remote(tars):
    """The shards with their stated sizes on a file system in memory."""
    state_sizes(tars)
    system = fsspec.filesystem("memory")
    for path in tars.iterdir():
        system.pipe(f"/bucket/tars/{path.name}", path.read_bytes())
    yield system
    system.rm("/bucket", recursive=True)


@pytest.fixture
def fetched(monkeypatch):
    """The names of the shards that this process fetches, in order, without prefetching."""
    names = []
    fetch = TarShard.fetch

    def counted(self, copy, stopped):
        names.append(self.name)
        return fetch(self, copy, stopped)

    monkeypatch.setattr(TarShard, "fetch", counted)
    monkeypatch.setattr("ganblocks.data.streaming.prefetch.ShardPrefetch.announce", lambda self, numbers: None)
    return names


def write_shards(folder: Path, **replaced: bytes) -> Path:
    """The shards; `i7=b"..."` replaces the file of the image of that number."""
    first = 0
    for number, size in enumerate(SIZES):
        files: list[tuple[str, bytes | str]] = []
        for index in range(first, first + size):
            name = f"{'ab'[index % 2]}/{index:03}"
            files += [(f"{name}.png", replaced.get(f"i{index}", png(8 * index))), (f"{name}.txt", f"number {index}")]
        write_tar(folder / f"{number:05}.tar", files)
        first += size
    return folder


def state_sizes(folder: Path, **changed: int) -> None:
    """Write a sizes.json, in which `s1=7` replaces the size of a shard."""
    sizes = {f"{number:05}.tar": changed.get(f"s{number}", size) for number, size in enumerate(SIZES)}
    (folder / "sizes.json").write_text(json.dumps(sizes))


def opened(source, **options):
    return open_data(f"shards?path={source}&together=2", **({"resolution": 8} | options))


def numbers_of(batch) -> list[int]:
    return [int(shade) // 8 for shade in batch.images[:, 0, 0, 0]]


def stream_of(images, count, *, position=0, batch_size=4, seed=3, **options):
    """The first `count` batches from a position on."""
    stream = batches(images, sampler_of(images, seed), position=position, batch_size=batch_size, **options)
    content = list(islice(stream, count))
    stream.close()
    return content
