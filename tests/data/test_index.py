"""Folders are searched completely; what cannot be used is named with its reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ganblocks.data.index import list_images
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError
from tests.data.files import png, reasons, shades, write_files


def test_images_are_sorted_by_their_paths(tmp_path):
    names = ["b.png", "a/z.png", "a-b.png", "A.PNG", "a/b/c.jpeg", "10.png", "9.png"]
    write_files(tmp_path, dict.fromkeys(names, png(0)))
    assert [sample.image.inner for sample in list_images(tmp_path).samples] == sorted(names)


def test_sources_without_images_are_refused(tmp_path):
    with pytest.raises(DataError, match="there is no folder or file"):
        open_data(tmp_path / "nowhere", resolution=16)
    with pytest.raises(DataError, match=f"{tmp_path} is a path, which takes no options; omit what begins with"):
        open_data(f"{tmp_path}?split=train", resolution=16)
    with pytest.raises(DataError, match=r"has no image files.*it is empty"):
        open_data(tmp_path, resolution=16)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"has no image files.*1 x \.txt"):
        open_data(tmp_path, resolution=16)
    with pytest.raises(DataError, match=r"is a file of another type; --data takes a folder of images, a .zip"):
        open_data(tmp_path / "notes.txt", resolution=16)


def test_pictures_in_formats_that_are_not_read_are_named(tmp_path):
    write_files(tmp_path, {"0.png": png(0), "1.HEIC": b"x", "2.eps": b"%!PS", "3.cr2": b"x", "4.txt": b"x"})
    images = open_data(tmp_path, resolution=8)
    assert reasons(images) == {
        "1.HEIC": ".heic is not read: convert it to PNG or JPEG",
        "2.eps": ".eps is not read: convert it to PNG or JPEG",
        "3.cr2": ".cr2 is not read: convert it to PNG or JPEG",
    }
    assert "3 of 4 files skipped: 1 x .heic is not read, 1 x .eps is not read, 1 x .cr2 is not read" in images.summary


def test_pictures_of_a_training_below_the_data_are_no_part_of_it(tmp_path):
    run = {"run/run.json": b"{}", "run/gan.yaml": b"", "run/losses.png": png(9), "run/samples/0.png": png(9)}
    write_files(tmp_path, {"0.png": png(0), "other/run.json": b"{}", "other/1.png": png(1)} | run)
    assert [sample.image.inner for sample in list_images(tmp_path).samples] == ["0.png", "other/1.png"]
    assert [each.image.inner for each in list_images(tmp_path / "run").samples] == ["losses.png", "samples/0.png"]


def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    write_files(tmp_path / "elsewhere", {"0.png": png(20)})
    write_files(tmp_path / "images", {"cats/1.png": png(40)})
    (tmp_path / "images" / "dogs").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "cats" / "round").symlink_to(tmp_path / "images")
    images = open_data(tmp_path / "images", resolution=8, cond_dim=2)
    assert images.class_names == ("cats", "dogs")
    assert shades(images) == [40, 20]
    assert reasons(images) == {"round": "is a link to a folder that contains it"}


def test_pipes_broken_links_and_closed_folders_are_named(tmp_path):
    write_files(tmp_path, {"0.png": png(0), "closed/1.png": png(0)})
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "closed").chmod(0)
    images = open_data(tmp_path, resolution=8)
    (tmp_path / "closed").chmod(0o700)
    expected = {"pipe.png": "is not a regular file", "broken.png": "is a broken link"}
    if os.getuid():  # root may list every folder
        expected["closed"] = "cannot be listed: Permission denied"
    assert reasons(images) == expected


def test_names_that_are_not_utf_8_are_read(tmp_path):
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))).write_bytes(png(20))
    images = open_data(tmp_path, resolution=8)
    assert shades(images) == [20]
    assert len(images.fingerprint) == 16
