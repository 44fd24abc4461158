"""The numbers of images in shards are stated beside them, or counted once and remembered."""

from __future__ import annotations

import json

import fsspec
import pytest

from ganblocks.data.preparation import prepare as preparation
from ganblocks.data.preparation.check import check_data
from ganblocks.data.preparation.download import list_files
from ganblocks.data.preparation.prepare import prepare_data
from ganblocks.data.streaming import tars as tars_module
from ganblocks.errors import DataError
from tests.data.streaming.conftest import SIZES, opened, state_sizes, stream_of
from tests.data.test_preparation import InThisProcess


def test_counts_are_remembered(tars, fetched):
    assert len(opened(tars)) == sum(SIZES)
    assert len(fetched) == len(SIZES)
    assert [summary.images for summary in opened(tars).summaries] == list(SIZES)
    assert len(fetched) == len(SIZES)


def test_counting_continues_where_it_was_interrupted(tars, fetched, cache):
    images = opened(tars)
    remembered = images.store.folder / "summaries.jsonl"
    lines = remembered.read_text().splitlines(keepends=True)
    remembered.write_text("".join(lines[:4]) + lines[4][:5])
    for path in images.store.folder.glob("*.json"):
        path.unlink()
    fetched.clear()
    assert opened(tars).summaries == images.summaries
    assert fetched == ["00004.tar", "00005.tar"]


def test_a_changed_shard_is_counted_again(tars, fetched):
    opened(tars)
    path = tars / "00001.tar"
    path.write_bytes((tars / "00000.tar").read_bytes())
    assert len(opened(tars)) == sum(SIZES) + 2


@pytest.mark.parametrize("name", ["sizes.json", "_info.json", "_stats.json"])
def test_stated_sizes_are_used_but_for_classes(tars, fetched, name):
    state_sizes(tars)
    sizes = json.loads((tars / "sizes.json").read_text())
    if name != "sizes.json":
        (tars / "sizes.json").unlink()
    if name == "_stats.json":
        for shard, size in sizes.items():
            (tars / shard).with_name(shard.replace(".tar", name)).write_text(
                json.dumps({"successes": size, "count": 99})
            )
    if name == "_info.json":
        split = {"filenames": list(sizes), "shard_lengths": list(sizes.values()), "num_samples": sum(sizes.values())}
        (tars / name).write_text(json.dumps({"splits": {"train": split}}))
    assert len(opened(tars)) == len(opened(tars, captions=True, cond_dim=4)) == sum(SIZES)
    assert fetched == []
    assert opened(tars, cond_dim=2).class_names == ("a", "b")
    assert len(fetched) == len(SIZES)


def test_sizes_of_other_shards_are_not_used_and_damaged_ones_refused(tars, fetched):
    (tars / "sizes.json").write_text('{"00000.tar": 5}')
    assert len(opened(tars)) == sum(SIZES)
    assert len(fetched) == len(SIZES)
    (tars / "sizes.json").write_text("{")
    with pytest.raises(DataError, match=r"sizes\.json is not what its name says: JSONDecodeError: .*; remove it"):
        opened(tars)


def test_the_manifest_of_a_prepared_data_set_states_images_and_classes(class_folder, tmp_path, fetched, monkeypatch):
    monkeypatch.setattr(preparation, "ProcessPoolExecutor", InThisProcess)
    prepare_data(class_folder, tmp_path / "out", resolution=8, num_shards=3, holdout=0.3)
    train, held_out = (opened(tmp_path / "out" / split, cond_dim=2) for split in ("train", "held-out"))
    assert len(train) + len(held_out) == 12
    assert train.class_names == ("a", "b")
    assert fetched == []
    (batch,) = stream_of(train, 1, batch_size=len(train))
    assert batch.labels.tolist() == [round(int(image[0, 0, 0]) / 20) % 2 for image in batch.images]
    (tmp_path / "out" / "manifest.json").write_text('["of another program"]')
    assert opened(tmp_path / "out" / "train", cond_dim=2).fingerprint == train.fingerprint


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_check_lists_the_tars_of_a_streamed_data_set(tars, tmp_path, elsewhere, monkeypatch):
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path / "copies"))
    system = fsspec.filesystem("memory")
    for path in tars.iterdir() if elsewhere else ():
        system.pipe(f"/check/{path.name}", path.read_bytes())
    report = check_data(f"shards?path={'memory://check' if elsewhere else tars}")
    assert (report.images, report.captions, report.classes) == (sum(SIZES), sum(SIZES), {"a": 13, "b": 12})
    if elsewhere:
        system.rm("/check", recursive=True)


@pytest.mark.parametrize("mark", ["ETag", "etag", "blob_id"])
def test_shards_elsewhere_whose_content_changed_are_copied_again(remote, fetched, monkeypatch, mark):
    def listed(url):
        system, path, files = list_files(url)
        return system, path, {name: info | {mark: contents[-1]} for name, info in files.items()}

    monkeypatch.setattr(tars_module, "list_files", listed)
    contents = []
    for content, count in (("one", 1), ("one", 1), ("another", 2)):
        contents.append(content)
        opened("memory://bucket/tars").read(0)
        assert len(fetched) == count
