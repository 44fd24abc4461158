"""Captions and classes come from files beside the images, from a dataset.json, or from shards."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from ganblocks.data.loader import Sampler, batches
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError

SHADES = (0, 60, 120, 180, 240)


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (10, 8), (shade,) * 3).save(file, "PNG")
    return file.getvalue()


def opened(source, **options):
    return open_data(source, resolution=8, **({"captions": True, "cond_dim": 32} | options))


@pytest.fixture
def folder(tmp_path):
    """Five images: with a caption, with two, with one in JSON of each sort."""
    beside = {
        0: ("0.txt", "black\n"),
        1: ("1.txt", "dark\n\nvery dark\n"),
        2: ("2.json", json.dumps({"caption": "grey", "width": 10})),
        3: ("3.json", json.dumps(["light", "bright"])),
        4: ("4.caption", "white"),
    }
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for index, shade in enumerate(SHADES):
        (tmp_path / "images" / "deep" / f"{index}.png").write_bytes(png(shade))
        name, text = beside[index]
        (tmp_path / "images" / "deep" / name).write_text(text)
    return tmp_path / "images"


CAPTIONS = [("black",), ("dark", "very dark"), ("grey",), ("light", "bright"), ("white",)]


def zipped(path: Path, labels: object, folder: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for index, shade in enumerate(SHADES):
            file.writestr(f"{folder}{index:05d}.png", png(shade))
        if labels is not None:
            file.writestr("dataset.json", json.dumps({"labels": labels}))
    return path


def sharded(folder: Path, told: str = "txt", cut: int = 0) -> Path:
    """Two shards of two and three samples."""
    folder.mkdir()
    for number, indices in enumerate(((0, 1), (2, 3, 4))):
        shard = folder / f"{number:05d}.tar"
        with tarfile.open(shard, "w") as tar:
            for index in indices:
                text = {"txt": f"shade {index}", "cls": str(index % 2), "json": json.dumps({"text": f"shade {index}"})}
                for suffix, data in (("png", png(SHADES[index])), (told, text[told].encode())):
                    info = tarfile.TarInfo(f"{index:09d}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        if number and cut:
            shard.write_bytes(shard.read_bytes()[:cut])
    return folder


def shades(images):
    return [int(images.read(index)[0, 0, 0]) for index in range(len(images))]


def test_captions_lie_beside_images(folder):
    images = opened(folder)
    assert list(images.captions) == CAPTIONS
    assert [images.caption(1, choice) for choice in (0.0, 0.4, 0.5, 0.99)] == ["dark", "dark", "very dark", "very dark"]


def test_a_dataset_json_holds_captions_or_classes(tmp_path):
    names = [f"{index:05d}.png" for index in range(5)]
    told = [[name, f"shade {index}"] for index, name in enumerate(names)]
    told[2][1] = ["grey", "mid"]
    images = opened(zipped(tmp_path / "text.zip", told))
    assert list(images.captions)[1:3] == [("shade 1",), ("grey", "mid")]
    assert shades(images) == list(SHADES)
    classes = zipped(tmp_path / "classes.zip", [[name, index % 3] for index, name in enumerate(names)])
    images = opened(classes, captions=False, cond_dim=3)
    assert images.labels.tolist() == [0, 1, 2, 0, 1]
    assert images.class_names == ("0", "1", "2")
    with pytest.raises(
        DataError, match=r"dataset.json has no caption for 00000.png, but 0; the generator takes captions"
    ):
        opened(classes)
    with pytest.raises(DataError, match=r"has no class for 00000.png, but 'shade 0'"):
        opened(tmp_path / "text.zip", captions=False, cond_dim=3)


def test_a_folder_may_have_a_dataset_json_too(folder):
    labels = [[f"deep/{index}.png", f"said {index}"] for index in range(5)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert opened(folder).captions[3] == ("said 3",)
    (folder / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match=r"is no dataset.json"):
        opened(folder)


@pytest.mark.parametrize("told", ["txt", "json"])
def test_shards_are_read_in_place(tmp_path, told):
    images = opened(sharded(tmp_path / "shards", told))
    assert list(images.captions) == [(f"shade {index}",) for index in range(5)]
    assert shades(images) == list(SHADES)
    assert len(opened(tmp_path / "shards" / "00001.tar")) == 3


def test_shards_may_have_classes(tmp_path):
    images = opened(sharded(tmp_path / "shards", "cls"), captions=False, cond_dim=2)
    assert images.labels.tolist() == [0, 1, 0, 1, 0]


def test_what_a_shard_that_is_cut_short_still_holds_is_used(tmp_path):
    images = opened(sharded(tmp_path / "shards", cut=2100))
    assert list(images.captions) == [("shade 0",), ("shade 1",), ("shade 2",)]
    assert [skipped.path.endswith("00001.tar") for skipped in images.skipped] == [True]


def test_images_without_captions_are_named(folder):
    (folder / "deep" / "2.json").unlink()
    with pytest.raises(
        DataError, match=r"1 of 5 images of .* have none, such as deep/2.png: put a .txt or .json beside"
    ):
        opened(folder)
    (folder / "deep" / "2.json").write_text('{"width": 10}')
    with pytest.raises(
        DataError, match=r"2.json has no caption: a string, a list of strings, or an object with one of caption"
    ):
        opened(folder)


def test_archives_that_hold_nothing_are_told(tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="cannot be read as a zip"):
        opened(tmp_path / "broken.zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as file:
        file.writestr("readme.md", "no images")
    with pytest.raises(DataError, match=r"has no image files .* but 1 others"):
        opened(tmp_path / "empty.zip")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["folder", "zip", "shards"])
def test_captions_follow_from_seed_and_position(tmp_path, folder, kind, workers):
    labels = [[f"{index:05d}.png", [f"{index} a", f"{index} b"]] for index in range(5)]
    sources = {
        "folder": lambda: folder,
        "zip": lambda: zipped(tmp_path / "data.zip", labels),
        "shards": lambda: sharded(tmp_path / "shards"),
    }
    source = sources[kind]()
    whole = opened(source)
    decoding = opened(source, in_memory=0)
    order = Sampler(5, seed=3)
    expected = list(islice(batches(whole, order, position=0, batch_size=2), 10))
    found = list(islice(batches(decoding, Sampler(5, seed=3), position=8, batch_size=2, workers=workers), 6))
    for one, other in zip(expected[4:], found, strict=True):
        assert one.captions == other.captions
        assert torch.equal(one.images, other.images)
    if kind != "shards":  # images with two captions show both in time
        many = islice(batches(whole, order, position=0, batch_size=5), 12)
        assert len({caption for batch in many for caption in batch.captions}) == sum(map(len, whole.captions))


def test_digits_have_captions():
    images = opened("digits", image_channels=1)
    seven = images.labels.tolist().index(7)
    assert "a handwritten seven" in images.captions[seven]
    batch = next(iter(batches(images, Sampler(len(images), 0), position=0, batch_size=4)))
    assert len(batch.captions) == 4
