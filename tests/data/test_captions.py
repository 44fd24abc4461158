"""Captions come from files beside the images; a caption in another encoding skips its image."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from ganblocks.data.loader import Sampler, batches
from ganblocks.errors import DataError
from tests.data.files import labelled_zip, open_captioned, png, reasons, shades, shards, write_files

CAPTIONS = [("black",), ("dark", "very dark"), ("grey",), ("light", "bright"), ("white",)]


def test_captions_are_read_from_files_beside_the_images(caption_folder):
    images = open_captioned(caption_folder)
    assert list(images.captions) == CAPTIONS
    assert [images.caption(1, choice) for choice in (0.0, 0.4, 0.5, 0.99)] == ["dark", "dark", "very dark", "very dark"]
    assert images.first_captions(2) == ["black", "grey"]


def test_images_without_captions_are_named(caption_folder):
    (caption_folder / "deep" / "2.json").unlink()
    (caption_folder / "deep" / "0.txt").write_text(" \n")
    with pytest.raises(
        DataError, match=r"2 of 5 images of .* have none, such as deep/0.png: put a .txt or .json beside"
    ):
        open_captioned(caption_folder)
    for content in ('{"width": 10}', '{"caption": ""}', "[]", '["a", 3]'):
        (caption_folder / "deep" / "0.txt").write_text("black")
        (caption_folder / "deep" / "2.json").write_text(content)
        with pytest.raises(
            DataError, match=r"2.json has no caption: a string, a list of strings, or an object with one of caption"
        ):
            open_captioned(caption_folder)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("suffix", ["txt", "json"])
def test_a_caption_with_a_byte_order_mark_is_read_without_it(tmp_path, encoding, suffix):
    text = "un café" if suffix == "txt" else '"un café"'
    write_files(tmp_path, {"0.png": png(0), f"0.{suffix}": text.encode(encoding)})
    assert open_captioned(tmp_path).captions == [("un café",)]


def test_an_image_with_a_caption_in_another_encoding_is_skipped(tmp_path):
    odd = {
        "1.txt": "un café".encode("latin-1"),
        "2.txt": "a bird".encode("utf-16-le"),
        "3.txt": b"a" * (2**20 + 1),
        "4.json": b"{not json",
        "5.json": b"[" * 100_000,
    }
    write_files(tmp_path, {f"{index}.png": png(index) for index in range(6)} | {"0.txt": "good"} | odd)
    images = open_captioned(tmp_path)
    assert shades(images) == [0]
    assert list(images.captions) == [("good",)]
    named = reasons(images)
    assert named["1.png"] == "its .txt file is not UTF-8: byte 0xe9 at position 6; convert it"
    assert named["2.png"] == "its .txt file is not UTF-8: it has zero bytes; convert it"
    assert named["3.png"] == "its .txt file is too long: 1,048,577 bytes; the limit is 1,048,576"
    assert named["4.png"].startswith("its .json file is not JSON: ")
    assert named["5.png"].startswith("its .json file is not JSON: ")
    assert images.summary == (
        "5 of 6 files skipped: 2 x its .txt file is not UTF-8, 2 x its .json file is not JSON, "
        "1 x its .txt file is too long",
    )


def test_a_data_set_without_a_readable_caption_is_refused(tmp_path):
    write_files(tmp_path, {"0.png": png(0), "0.txt": "café".encode("latin-1")})
    with pytest.raises(
        DataError, match=r"none of 1 images has captions that can be read: .*0\.png: its .txt file is not"
    ):
        open_captioned(tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["folder", "zip", "shards"])
def test_captions_depend_on_seed_and_position_alone(tmp_path, caption_folder, kind, workers):
    labels = [[f"{index:05d}.png", [f"{index} a", f"{index} b"]] for index in range(5)]
    sources = {
        "folder": lambda: caption_folder,
        "zip": lambda: labelled_zip(tmp_path / "data.zip", labels),
        "shards": lambda: shards(tmp_path / "shards"),
    }
    source = sources[kind]()
    in_memory, in_files = open_captioned(source), open_captioned(source, in_memory=0)
    sampler = Sampler(5, seed=3)
    expected = list(islice(batches(in_memory, sampler, position=0, batch_size=2), 10))
    resumed = list(islice(batches(in_files, Sampler(5, seed=3), position=8, batch_size=2, workers=workers), 6))
    for one, other in zip(expected[4:], resumed, strict=True):
        assert one.captions == other.captions
        assert torch.equal(one.images, other.images)
    if kind != "shards":  # of images with two captions, each is used in some pass
        several = islice(batches(in_memory, sampler, position=0, batch_size=5), 12)
        assert len({caption for batch in several for caption in batch.captions}) == sum(map(len, in_memory.captions))
