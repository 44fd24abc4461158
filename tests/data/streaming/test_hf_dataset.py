"""`hf-dataset` with `streaming`: the shards of an IterableDataset, in an order that resumes exactly."""

from __future__ import annotations

import shutil

import pytest

from ganblocks.data.preparation.check import check_data
from ganblocks.data.sources import open_data
from ganblocks.data.streaming.images import StreamedImages
from ganblocks.errors import DataError
from plugins.data_sets.hf_dataset import _streamed
from tests.data.files import png
from tests.data.streaming.conftest import numbers_of, stream_of

datasets = pytest.importorskip("datasets")


@pytest.fixture
def parquet(tmp_path, monkeypatch):
    """Four parquet files of five images in two classes with captions, and one with an image missing."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    features = {
        "picture": datasets.Image(),
        "label": datasets.ClassLabel(names=["even", "odd"]),
        "words": datasets.Value("string"),
    }
    (tmp_path / "parquet").mkdir()
    for part in range(4):
        numbers = range(5 * part, 5 * part + 5)
        content = {
            "picture": [None if number == 7 else {"bytes": png(8 * number), "path": None} for number in numbers],
            "label": [number % 2 for number in numbers],
            "words": [f"number {number}" for number in numbers],
        }
        table = datasets.Dataset.from_dict(content, features=datasets.Features(features))
        table.to_parquet(tmp_path / "parquet" / f"train-{part:05}-of-00004.parquet")
    return tmp_path / "parquet"


def opened_rows(path, **options):
    return open_data(f"hf-dataset?path={path}&streaming=yes&together=2", resolution=8, **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_rows_resume_exactly_with_any_workers(parquet, workers):
    images = opened_rows(parquet, cond_dim=2)
    assert isinstance(images, StreamedImages)
    assert (len(images), len(images.store.shards), images.class_names) == (20, 4, ("even", "odd"))
    whole = stream_of(images, 10)
    resumed = stream_of(opened_rows(parquet, cond_dim=2), 6, position=16, workers=workers)
    assert [numbers_of(batch) for batch in resumed] == [numbers_of(batch) for batch in whole[4:]]
    assert all(batch.labels.tolist() == [number % 2 for number in numbers_of(batch)] for batch in resumed)


def test_each_row_comes_once_and_a_row_without_image_is_named(parquet):
    (batch,) = stream_of(opened_rows(parquet), 1, batch_size=20)
    assert sorted(numbers_of(batch)) == sorted([*range(7), 8, *range(8, 20)])
    assert [tuple(each) for each in batch.skipped] == [(f"{parquet}/train, shard 1 of 4/row 2", "the row has no image")]


def test_columns_are_chosen_by_name(parquet):
    images = open_data(
        f"hf-dataset?path={parquet}&streaming=yes&caption=words&image=picture", resolution=8, captions=True, cond_dim=8
    )
    (batch,) = stream_of(images, 1)
    assert list(batch.captions) == [f"number {number}" for number in numbers_of(batch)]
    assert images.name_of(6) == f"{parquet}/train, shard 1 of 4/row 1"


def test_files_that_changed_are_read_again_and_have_another_fingerprint(parquet, tmp_path):
    fingerprint = opened_rows(parquet).fingerprint
    assert opened_rows(shutil.copytree(parquet, tmp_path / "copy")).fingerprint == fingerprint
    (parquet / "train-00003-of-00004.parquet").write_bytes((parquet / "train-00000-of-00004.parquet").read_bytes())
    _streamed.cache_clear()  # as a new process
    images = opened_rows(parquet)
    assert images.fingerprint != fingerprint
    assert sorted(numbers_of(stream_of(images, 1, batch_size=20)[0])).count(0) == 2


def test_an_image_folder_is_streamed_as_one_shard(class_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    images = opened_rows(class_folder, cond_dim=2)
    assert (len(images.store.shards), images.class_names) == (1, ("a", "b"))
    (batch,) = stream_of(images, 1, batch_size=12)
    shades = [round(int(image[0, 0, 0]) / 20) for image in batch.images]
    assert sorted(shades) == list(range(12))
    assert batch.labels.tolist() == [shade % 2 for shade in shades]


def test_what_cannot_be_streamed_is_refused(parquet, tmp_path):
    with pytest.raises(DataError, match="is streamed, and single files of it cannot be listed; omit its option stream"):
        check_data(f"hf-dataset?path={parquet}&streaming=yes")
    with pytest.raises(DataError, match="there is no column story"):
        opened_rows(f"{parquet}&caption=story")
    datasets.Dataset.from_dict({"label": [0, 1]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="was written by save_to_disk and is read in place; omit streaming"):
        opened_rows(tmp_path / "saved")
    with pytest.raises(DataError, match="absent cannot be opened: "):
        opened_rows(tmp_path / "absent")
