"""Copies of shards from elsewhere: few at a time, made once, and made again when they are gone."""

from __future__ import annotations

import pickle

import fsspec
import pytest
import torch

from ganblocks.data.streaming import store as stores
from ganblocks.errors import DataError
from tests.data.streaming.conftest import SIZES, numbers_of, opened, state_sizes, stream_of

TOTAL = sum(SIZES)


@pytest.fixture
def remote(tars):
    """The shards with their stated sizes on a file system in memory."""
    state_sizes(tars)
    system = fsspec.filesystem("memory")
    for path in tars.iterdir():
        system.pipe(f"/bucket/tars/{path.name}", path.read_bytes())
    yield system
    system.rm("/bucket", recursive=True)


def copies(cache):
    return sorted(path.stem for path in cache.rglob("*.data"))


@pytest.mark.parametrize("workers", [0, 2])
def test_remote_shards_give_the_batches_of_local_ones(tars, remote, workers):
    here, there = opened(tars), opened("memory://bucket/tars")
    for one, other in zip(stream_of(here, 14), stream_of(there, 14, workers=workers), strict=True):
        assert torch.equal(one.images, other.images)
    assert here.fingerprint == there.fingerprint
    assert there.name_of(6) == "00001.tar/a/006.png"


def test_few_copies_are_kept_and_all_processes_use_them(remote, cache, fetched):
    images = opened("memory://bucket/tars")
    images.store = stores.ShardStore(images.store.shards, images.store.folder, kept=3)
    stream_of(images, 6)
    last = images.order(3).shards_of(0, 2)
    assert len(copies(cache)) == 3
    assert {f"{shard:06}" for shard in last} <= set(copies(cache))
    assert len(fetched) == 6
    (batch,) = stream_of(opened("memory://bucket/tars"), 1, position=TOTAL - 1, batch_size=1)
    assert len(batch.images) == 1
    assert len(fetched) == 6


def test_a_copy_that_another_process_removes_is_made_again(remote, cache, fetched):
    images = opened("memory://bucket/tars")
    expected = images.read(0)
    for path in cache.rglob("*.data"):
        path.unlink()
    assert torch.equal(images.read(0), expected)
    assert fetched == ["00000.tar"] * 2


def test_a_copy_that_fails_is_tried_again_and_leaves_nothing(remote, cache, fetched, monkeypatch):
    monkeypatch.setattr(stores, "PAUSES", (0.0, 0.0))
    original, failures = type(remote).open, []

    def breaks(self, path, *args, **kwargs):
        if path.endswith(".tar") and len(failures) < limit:
            failures.append(path)
            raise ConnectionError("the network is down")
        return original(self, path, *args, **kwargs)

    monkeypatch.setattr(type(remote), "open", breaks)
    limit = 2
    assert numbers_of(stream_of(opened("memory://bucket/tars"), 1, batch_size=1)[0])
    failures.clear()
    limit = 100
    with pytest.raises(DataError, match=r"\.tar cannot be read: the network is down"):
        stream_of(opened("memory://bucket/tars"), 14)
    assert len(copies(cache)) <= 2
    assert not [path for path in cache.rglob(".*") if path.is_file()]


@pytest.mark.parametrize("content", ["", "{", '"file"\n', '"FILE"\n[[', "\0\0"])
def test_a_damaged_index_is_written_again(remote, cache, content):
    images = opened("memory://bucket/tars")
    expected = images.read(0)
    path = images.store.folder / "000000.json"
    whole = path.read_bytes()
    path.write_text(content.replace("FILE", str(path.with_suffix(".data"))))
    assert torch.equal(pickle.loads(pickle.dumps(images)).read(0), expected)
    assert path.read_bytes() == whole


def test_what_a_killed_process_left_behind_is_removed(remote, cache, fetched):
    images = opened("memory://bucket/tars")
    images.store.folder.mkdir(parents=True)
    left = images.store.folder / ".000000.data.abc"
    left.write_bytes(b"half of a shard")
    images.read(0)
    assert not left.exists()


def test_shards_are_fetched_in_the_background_in_the_given_order(remote, cache):
    images = opened("memory://bucket/tars")
    images.store.prefetch([4, 1])
    for _ in range(500):
        if copies(cache) == ["000001", "000004"]:
            break
        torch.multiprocessing.get_context().Event().wait(0.01)
    first, second = (images.store.folder / f"{number:06}.data" for number in (4, 1))
    assert first.stat().st_mtime_ns <= second.stat().st_mtime_ns
