"""Data sets of other libraries: an LMDB that is read in place, and what Hugging Face's `datasets` opens."""

from __future__ import annotations

import io
import json
import pickle
import sys
from pathlib import Path

import pytest
from PIL import Image

from ganblocks.data.loader import Sampler, batches
from ganblocks.data.preparation.check import check_data
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError
from plugins.data_sets.hf_dataset import prepare_dataset
from plugins.data_sets.lmdb import Record, prepare_lmdb
from registry import DataSet, Origin, catalogue
from tests.data.files import SHADES, png


@pytest.fixture
def store(tmp_path):
    """An LMDB of five images in two sizes."""
    lmdb = pytest.importorskip("lmdb")
    path = tmp_path / "images.lmdb"
    with lmdb.open(str(path), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        for number, shade in enumerate(SHADES):
            for size in (8, 16):
                buffer = io.BytesIO()
                Image.new("RGB", (size, size), (shade, size, 0)).save(buffer, "PNG")
                transaction.put(f"{size}-{number:05d}".encode(), buffer.getvalue())
        transaction.put(b"length", str(len(SHADES)).encode())
    return path


def colours(images):
    return [tuple(images.read(index)[:2, 0, 0].tolist()) for index in range(len(images))]


def test_an_lmdb_is_read_at_the_smallest_size_that_is_large_enough(store):
    assert colours(open_data(f"lmdb?path={store}", resolution=8)) == [(shade, 8) for shade in SHADES]
    assert colours(open_data(f"lmdb?path={store}", resolution=12)) == [(shade, 16) for shade in SHADES]
    assert colours(open_data(f"lmdb?path={store}", resolution=64)) == [(shade, 16) for shade in SHADES]
    assert colours(open_data(f"lmdb?path={store}&resolution=8", resolution=64)) == [(shade, 8) for shade in SHADES]


def test_workers_read_an_lmdb_in_the_order_of_one_process(store):
    images = open_data(f"lmdb?path={store}", resolution=8, in_memory=0)
    assert pickle.loads(pickle.dumps(images.locations[1])) == Record(str(store), 8, 1)
    orders = []
    for workers in (0, 2):
        stream = batches(images, Sampler(len(images), seed=0), position=3, batch_size=4, workers=workers)
        orders.append([next(stream).images[:, 0, 0, 0].tolist() for _ in range(3)])
        stream.close()
    assert orders[0] == orders[1]


def test_an_lmdb_that_cannot_be_used_is_refused_with_the_reason(store, tmp_path):
    with pytest.raises(DataError, match=rf"{store} is an LMDB; pass it as --data 'lmdb\?path={store}'"):
        open_data(store, resolution=8)
    with pytest.raises(DataError, match="has no images of 32 px; resolution can be 8, 16"):
        open_data(f"lmdb?path={store}&resolution=32", resolution=8)
    with pytest.raises(DataError, match="has no classes, which the generator takes"):
        open_data(f"lmdb?path={store}", resolution=8, cond_dim=2)
    with pytest.raises(DataError, match="there is no LMDB nowhere"):
        open_data("lmdb?path=nowhere", resolution=8)
    with pytest.raises(DataError, match=r"path: is required; side: no such option; valid: path, resolution"):
        open_data("lmdb?side=8", resolution=8)
    (tmp_path / "text.mdb").write_bytes(b"no LMDB" * 1000)
    with pytest.raises(DataError, match="cannot be opened as an LMDB"):
        open_data(f"lmdb?path={tmp_path / 'text.mdb'}", resolution=8)


def test_an_image_that_an_lmdb_lacks_is_skipped(store):
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(store), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"length", b"6")
    report = check_data(f"lmdb?path={store}&resolution=8")
    assert (report.images, [each.reason for each in report.unreadable]) == (5, ["the LMDB has no key 8-00005"])


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder in the layout of Hugging Face's imagefolder, with captions in its metadata."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "photos" / "train"
    folder.mkdir(parents=True)
    rows = []
    for number, shade in enumerate(SHADES):
        (folder / f"{number}.png").write_bytes(png(shade))
        rows.append(
            {"file_name": f"{number}.png", "text": f"shade {shade}", "kind": "dark" if shade < 100 else "bright"}
        )
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "photos"


def test_a_dataset_of_hugging_face_has_the_chosen_columns(photos):
    images = open_data(f"hf-dataset?path={photos}", resolution=8, captions=True)
    assert [images.read(index)[0, 0, 0].item() for index in range(5)] == list(SHADES)
    assert images.captions == [(f"shade {shade}",) for shade in SHADES]
    images = open_data(f"hf-dataset?path={photos}&label=kind&split=train[1:]", resolution=8, cond_dim=2)
    assert (images.class_names, images.labels.tolist()) == (("bright", "dark"), [1, 0, 0, 0])


def test_a_dataset_on_disk_keeps_its_class_names_and_is_read_by_workers(tmp_path):
    datasets = pytest.importorskip("datasets")
    content = {"picture": [{"bytes": png(shade), "path": None} for shade in SHADES], "label": [0, 1, 1, 0, 1]}
    features = datasets.Features({"picture": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    saved = datasets.Dataset.from_dict(content, features=features)
    saved.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"test": saved}).save_to_disk(tmp_path / "splits")
    assert len(open_data(f"hf-dataset?path={tmp_path / 'splits'}&split=test", resolution=8)) == 5
    images = open_data(f"hf-dataset?path={tmp_path / 'saved'}", resolution=8, cond_dim=2, in_memory=0)
    assert (images.class_names, images.labels.tolist()) == (("cat", "dog"), [0, 1, 1, 0, 1])
    stream = batches(images, Sampler(len(images), seed=0), position=0, batch_size=5, workers=1)
    batch = next(stream)
    stream.close()
    shades = {int(shade): int(label) for shade, label in zip(batch.images[:, 0, 0, 0], batch.labels, strict=True)}
    assert shades == dict(zip(SHADES, [0, 1, 1, 0, 1], strict=True))


def test_columns_that_do_not_fit_are_refused(photos, tmp_path):
    with pytest.raises(DataError, match="caption: there is no column story; columns are image, text, kind"):
        open_data(f"hf-dataset?path={photos}&caption=story", resolution=8)
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"label": [0, -1]}).save_to_disk(tmp_path / "labels")
    with pytest.raises(DataError, match="has no column of images; its columns are label"):
        open_data(f"hf-dataset?path={tmp_path / 'labels'}", resolution=8)
    with pytest.raises(DataError, match="absent cannot be opened: "):
        open_data(f"hf-dataset?path={tmp_path / 'absent'}", resolution=8)


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        (None, r"returned None from its function for this data set; it must return registry.DataSet\(path, license\)"),
        (Path("folder"), r"returned PosixPath\('folder'\) from its function"),
        (DataSet("folder"), r"returned a DataSet whose path is 'folder'; it must be a pathlib.Path"),
        (DataSet(Path("folder"), images=["a", "b"], classes=[0]), "returned a DataSet of 2 images with 1 classes; it"),
    ],
)
def test_a_data_set_of_the_wrong_type_is_refused_with_the_package_of_its_plugin(returned, problem, monkeypatch):
    catalogue.load()
    monkeypatch.setattr(catalogue, "_items", dict(catalogue._items))
    catalogue.register_data_set("stripes", lambda *_: returned, Origin("stripes", "acme-data", "1.2"))
    with pytest.raises(DataError, match=f"--data stripes: the plugin of acme-data 1.2 {problem}"):
        open_data("stripes", resolution=8)


@pytest.mark.parametrize(("package", "prepare"), [("lmdb", prepare_lmdb), ("datasets", prepare_dataset)])
def test_without_its_package_a_data_set_names_the_extra(package, prepare, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"pip install 'ganblocks\[{package}\]'"):
        prepare(8, 3, {"path": str(tmp_path)})
