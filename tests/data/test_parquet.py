"""Parquet files of the Hugging Face Hub: images, class names, captions."""

from __future__ import annotations

import json
from itertools import islice

import pytest
import torch

from ganblocks.data.loader import Sampler, batches
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError
from tests.data.files import SHADES, open_captioned, png, reasons, shades


def write(path, columns, features=None, **options):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(table, path, **options)
    return path


def images_column(count=5):
    return [{"bytes": png(shade), "path": f"{shade}.png"} for shade in SHADES[:count]]


def test_images_labels_and_captions_are_read(tmp_path):
    features = {"pic": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    columns = {"pic": images_column(), "label": [0, 1, 0, 1, 0], "text": [f"t{index}" for index in range(5)]}
    path = write(tmp_path / "a.parquet", columns, features, row_group_size=2)
    images = open_data(path, resolution=8, cond_dim=2)
    assert shades(images) == list(SHADES)
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [0, 1, 0, 1, 0]
    assert list(open_captioned(path).captions) == [(f"t{index}",) for index in range(5)]


def test_files_of_a_folder_are_read_together_and_their_splits_named(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        write(tmp_path / f"{split}-00000-of-00001.parquet", {"image": images_column(count), "label": ["a"] * count})
    images = open_data(tmp_path, resolution=8)
    assert shades(images) == [0, 60, 0, 60, 120]
    assert images.notes == ("the splits test, train are used together",)
    assert open_data(tmp_path, resolution=8, cond_dim=1).class_names == ("a",)


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_are_decoded_in_any_order(tmp_path, workers):
    path = write(tmp_path / "a.parquet", {"image": images_column()}, row_group_size=2)
    in_memory, in_files = (open_data(path, resolution=8, in_memory=limit) for limit in (2**30, 0))
    for one, other in zip(
        islice(batches(in_memory, Sampler(5, 0), position=3, batch_size=4), 6),
        islice(batches(in_files, Sampler(5, 0), position=3, batch_size=4, workers=workers), 6),
        strict=True,
    ):
        assert torch.equal(one.images, other.images)


def test_rows_without_bytes_are_skipped(tmp_path):
    rows = [*images_column(2), {"bytes": None, "path": "elsewhere.png"}, {"bytes": b"bad", "path": "3.png"}]
    images = open_data(write(tmp_path / "a.parquet", {"image": rows}), resolution=8)
    assert reasons(images) == {
        "row group 0, row 2": "has no bytes in its row, only a path: 'elsewhere.png'",
        "row group 0, row 3": "is not an image",
    }


def test_files_without_images_or_labels_and_damaged_ones_are_refused(tmp_path):
    path = write(tmp_path / "a.parquet", {"image": images_column(), "name": list("abcde")})
    with pytest.raises(DataError, match=r"has no column of classes, .* it may be called label, labels, class"):
        open_data(path, resolution=8, cond_dim=2)
    with pytest.raises(DataError, match=r"has no column of images \(image, img, .*\); its columns: name"):
        open_data(write(tmp_path / "b.parquet", {"name": list("ab")}), resolution=8)
    (tmp_path / "c.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        open_data(tmp_path / "c.parquet", resolution=8)


def test_a_row_group_beyond_the_memory_bound_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ganblocks.data.parquet.MAX_ROW_GROUP", 100)
    with pytest.raises(DataError, match=r"row group 0 has .* bytes, which are read at once; the limit is 100"):
        open_data(write(tmp_path / "a.parquet", {"image": images_column()}), resolution=8)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr("ganblocks.data.parquet.import_module", missing)
    with pytest.raises(DataError, match=r"a.parquet: parquet files are read with pyarrow: pip install ganblocks\[parq"):
        open_data(tmp_path / "a.parquet", resolution=8)
