"""Copies of shards from elsewhere: few at a time, made once, and made again when they are gone."""

from __future__ import annotations

import errno
import os
import pickle
import threading
import time

import pytest
import torch

from ganblocks.data.loader import batches
from ganblocks.data.streaming import store as stores
from ganblocks.data.streaming.prefetch import ShardPrefetch
from ganblocks.data.streaming.rows import RowShard
from ganblocks.errors import DataError
from registry import ShardImage
from registry.spec_file import replacing
from tests.data.streaming.conftest import SIZES, numbers_of, opened, state_sizes, stream_of

TOTAL = sum(SIZES)


def copies(cache):
    return sorted(path.stem for path in cache.rglob("*.data"))


@pytest.mark.parametrize("workers", [0, 2])
def test_remote_shards_give_the_batches_of_local_ones(tars, remote, workers):
    here, there = opened(tars), opened("memory://bucket/tars")
    for one, other in zip(stream_of(here, 14), stream_of(there, 14, workers=workers), strict=True):
        assert torch.equal(one.images, other.images)
    assert here.fingerprint == there.fingerprint
    assert there.name_of(6) == "00001.tar/a/006.png"


def test_few_copies_are_kept_and_all_processes_use_them(remote, cache, fetched, monkeypatch):
    monkeypatch.setattr(stores, "IN_USE", -1.0)
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
    others = [images.store.folder / name for name in (".000003.data.old", ".000004.data.new")]
    for other in others:
        other.touch()
    os.utime(others[0], (0, 0))
    images.read(0)
    assert [path.exists() for path in (left, *others)] == [False, False, True]  # the last one may be in the making


def test_shards_are_fetched_in_the_background_in_the_given_order(remote, cache):
    images = opened("memory://bucket/tars")
    with ShardPrefetch(images.store) as prefetch:
        prefetch.announce([4, 1])
        for _ in range(500):
            if copies(cache) == ["000001", "000004"]:
                break
            time.sleep(0.01)
    first, second = (images.store.folder / f"{number:06}.data" for number in (4, 1))
    assert first.stat().st_mtime_ns <= second.stat().st_mtime_ns


class Endless:
    """A shard that is read until it is stopped."""

    name = "endless"

    def __init__(self):
        self.started, self.ended = threading.Event(), threading.Event()

    def fetch(self, copy, stopped):
        self.started.set()
        with replacing(copy):
            while not stopped():
                time.sleep(0.001)
            self.ended.set()
            raise stores.Stopped


def test_the_end_of_the_batches_stops_the_copy_of_the_next_shards(tars, tmp_path):
    images, endless = opened(tars), Endless()
    images.store = stores.ShardStore([endless] * len(SIZES), tmp_path / "store", kept=2)
    images._index = lambda number: pytest.fail("no image is read")
    stream = batches(images, images.order(0), position=0, batch_size=2)
    images.read = lambda index: torch.zeros(3, 8, 8) if endless.started.wait(60) else None
    next(stream)
    assert not endless.ended.is_set()
    stream.close()
    assert endless.ended.is_set()
    assert [thread for thread in threading.enumerate() if thread.name == "shards"] == []
    assert not [path for path in (tmp_path / "store").iterdir() if path.name != "lock"]


def test_a_copy_that_is_stopped_leaves_nothing(remote, tmp_path):
    class Rows:
        name = "rows"

        def read(self):
            yield ShardImage("row 0", b"bytes")

    for shard in (opened("memory://bucket/tars").store.shards[0], RowShard(Rows(), None)):
        store = stores.ShardStore([shard], tmp_path / "store", kept=1)
        with pytest.raises(stores.Stopped):
            store.try_to_fetch(0, lambda: True)
        assert [path.name for path in store.folder.iterdir()] == ["lock"]


def test_shards_that_another_run_uses_stay_whatever_the_number_that_one_run_keeps(remote, cache, fetched):
    one, other = opened("memory://bucket/tars"), opened("memory://bucket/tars")
    one.store = stores.ShardStore(one.store.shards, one.store.folder, kept=1)
    for _ in range(2):
        for index in (0, 6):
            one.read(index)
        other.read(20)
    assert fetched == ["00000.tar", "00001.tar", "00005.tar"]
    for path in cache.rglob("*.json"):
        os.utime(path, (0, 0))
    one.read(10)
    assert copies(cache) == ["000002"]


def test_a_read_marks_its_shard_as_used(remote, cache):
    images = opened("memory://bucket/tars")
    images.read(0)
    path = images.store.folder / "000000.json"
    os.utime(path, (0, 0))
    images.marked.clear()
    images.read(1)
    assert path.stat().st_mtime > 0


def test_a_full_disk_and_a_folder_that_cannot_be_written_are_named(tars, tmp_path, monkeypatch):
    state_sizes(tars)
    images = opened(tars)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(stores, "write_atomically", full)
    with pytest.raises(DataError, match=r"cannot be copied to .*: No space left on device; set GANBLOCKS_CACHE"):
        images.read(0)
    (tmp_path / "file").touch()
    images.store = stores.ShardStore(images.store.shards, tmp_path / "file" / "cache", kept=1)
    with pytest.raises(DataError, match=r"file/cache: .* cannot be written there .*; set GANBLOCKS_CACHE"):
        images.read(0)


def test_other_shards_are_fetched_while_one_waits_for_its_next_try(remote, monkeypatch):
    images, waits = opened("memory://bucket/tars"), []

    def fails(self, *_):
        raise ConnectionError("the network is down")

    def wait(seconds):
        waits.append(seconds)
        with images.store._locked(0):
            pass

    with monkeypatch.context() as broken:
        broken.setattr(type(remote), "open", fails)
        broken.setattr(stores.time, "sleep", wait)
        with pytest.raises(DataError, match=r"00000\.tar cannot be read"):
            images.store.fetch(0)
    assert waits == list(stores.PAUSES)


def test_a_shard_that_was_changed_or_cut_short_is_refused(remote, cache, monkeypatch):
    monkeypatch.setattr(stores, "PAUSES", ())
    images = opened("memory://bucket/tars")
    path = "/bucket/tars/00000.tar"
    length = len(remote.cat(path))
    remote.pipe(path, remote.cat(path)[: length - 1024])
    with pytest.raises(
        DataError, match=rf"00000\.tar cannot be read: has {length - 1024:,} bytes, and {length:,} when"
    ):
        images.read(0)
    assert copies(cache) == []


def test_a_shard_that_is_gone_is_reported_at_once(tars, monkeypatch):
    state_sizes(tars)
    images = opened(tars)
    monkeypatch.setattr(stores.time, "sleep", lambda seconds: pytest.fail("it is not waited for"))
    (tars / "00001.tar").unlink()
    with pytest.raises(DataError, match=r"00001\.tar cannot be read: No such file"):
        images.read(6)
