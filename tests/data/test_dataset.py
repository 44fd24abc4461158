"""Data sets in memory and in files: the same images, skipped files, fingerprints, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import DdsImagePlugin, Image

from ganblocks.data.dataset import ImagesInFiles, ImagesInMemory
from ganblocks.data.digits import digits
from ganblocks.data.skipped import Skipped, summarize_skipped
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError
from tests.data.files import png, reasons, shades, write_files, write_zip


def test_damaged_images_are_skipped_and_named(class_folder):
    whole = (class_folder / "a" / "00.png").read_bytes()
    (class_folder / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (class_folder / "b" / "text.jpg").write_text("not an image")
    (class_folder / "b" / "empty.webp").touch()
    (class_folder / "notes.txt").write_text("no image, and not called one")
    (class_folder / ".hidden.png").write_text("hidden")
    images = open_data(class_folder, resolution=16)
    assert len(images) == 12
    assert sorted(reasons(images)) == ["cut.png", "empty.webp", "text.jpg"]
    assert reasons(images)["text.jpg"] == "is not an image"
    assert images.summary[-1] == "3 of 15 files skipped: 3 x is not an image"


def test_an_error_of_any_type_in_a_decoder_skips_one_image_only(tmp_path):
    Image.new("RGB", (8, 8), (60, 60, 60)).save(tmp_path / "good.dds")
    data = bytearray((tmp_path / "good.dds").read_bytes())
    data[80:84] = DdsImagePlugin.DDPF.FOURCC.to_bytes(4, "little")
    data[84:88] = b"ODD!"
    (tmp_path / "odd.dds").write_bytes(data)
    images = open_data(tmp_path, resolution=8)
    assert shades(images) == [60]
    assert reasons(images)["odd.dds"].endswith("(NotImplementedError)")


def test_a_summary_counts_reasons_and_lists_the_most_common():
    counts = {f"reason {name}": count for count, name in enumerate("abcdefgh", 1)}
    skipped = [Skipped("x", f"{reason}: {n}") for reason, count in counts.items() for n in range(count)]
    assert summarize_skipped(skipped, 1993) == (
        "36 of 1,993 files skipped: 8 x reason h, 7 x reason g, 6 x reason f, 5 x reason e, 4 x reason d, "
        "3 x reason c, 2 other reasons"
    )
    sizes = [Skipped("x", f"has {size} bytes") for size in (1, 20, 3000)]
    assert summarize_skipped(sizes, 3) == "3 of 3 files skipped: 3 x has N bytes"


def test_a_folder_without_a_readable_image_is_refused(tmp_path, monkeypatch):
    (tmp_path / "bad.png").write_text("bad")
    with pytest.raises(
        DataError, match=r"none of the 1 image files .* can be read; the first: .*bad\.png: is not an image"
    ):
        open_data(tmp_path, resolution=16)
    for index in range(600):
        (tmp_path / f"{index:03d}.png").touch()
    monkeypatch.setattr("ganblocks.data.sources.MAX_FAILURES", 300)
    with pytest.raises(DataError, match=r"none of the first 512 of 601 image files .* can be read; the first: .*000"):
        open_data(tmp_path, resolution=16)


def test_images_of_another_shape_are_refused():
    with pytest.raises(DataError, match=r"not bytes of shape \(3, 16, 16\)"):
        open_data(ImagesInMemory(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)), resolution=16)
    with pytest.raises(DataError, match="images of 2 channels"):
        open_data("digits", resolution=16, image_channels=2)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"labels": torch.tensor([0, 1, 2, 1]), "class_names": ("a", "b")},
            r"labels from 0 to 2; the 2 classes begin at",
        ),
        ({"labels": torch.tensor([0, -1, 1, 1]), "class_names": ("a", "b")}, "labels from -1 to 1"),
        ({"labels": torch.tensor([0, 1]), "class_names": ("a", "b")}, "4 images and 2 labels"),
        ({"captions": [("a",), (), ("b",), ("c",)]}, "image 1 has no caption"),
        ({}, r"has no classes; the generator takes 2 \(cond_dim\)"),
    ],
)
def test_labels_of_images_in_memory_are_checked(labels, message):
    images = ImagesInMemory(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), **labels)
    with pytest.raises(DataError, match=message):
        open_data(images, resolution=8, cond_dim=2, captions="captions" in labels)


def test_a_fingerprint_is_that_of_names_sizes_bytes_and_labels(tmp_path):
    files = {f"{name}/{index}.png": png(index) for name in "ab" for index in range(3)}

    def fingerprint(name: str, files: dict[str, bytes], **options: int) -> str:
        return open_data(write_files(tmp_path / name, files), resolution=8, **options).fingerprint

    first = fingerprint("first", files)
    assert len(first) == 16
    assert fingerprint("moved", files) == first
    assert open_data(tmp_path / "first", resolution=4, image_channels=1, in_memory=0).fingerprint == first
    assert open_data(write_zip(tmp_path / "a.zip", sorted(files.items())), resolution=8).fingerprint == first
    renamed = {name.replace("a/0", "a/9"): data for name, data in files.items()}
    repainted = files | {"b/1.png": png(77)}
    others = [fingerprint("renamed", renamed), fingerprint("other", repainted), fingerprint("first", {}, cond_dim=2)]
    assert len({first, *others}) == 4


def test_a_fingerprint_of_images_in_memory_is_that_of_their_pixels():
    pixels = digits("train").pixels
    first = ImagesInMemory(pixels, name="one").fingerprint
    assert ImagesInMemory(pixels.clone(), name="two").fingerprint == first
    changed = pixels.clone()
    changed[7] += 1
    assert ImagesInMemory(changed).fingerprint != first
    assert digits("train").fingerprint != first  # it has labels


def test_images_are_decoded_later_where_memory_does_not_suffice(class_folder):
    images = open_data(class_folder, resolution=16, in_memory=12 * 3 * 16 * 16 - 1)
    assert isinstance(images, ImagesInFiles)
    assert isinstance(open_data(class_folder, resolution=16, in_memory=12 * 3 * 16 * 16), ImagesInMemory)
    assert Path(images.name_of(1)).name == "02.png"


def test_a_progress_bar_is_shown_on_a_terminal_when_reading_takes_long(class_folder, monkeypatch, capsys):
    monkeypatch.setattr("ganblocks.data.preparation.progress_bar.PATIENCE", 0.0)
    monkeypatch.setattr("ganblocks.data.sources.CHUNK", 2)
    for terminal, progress in (("1", True), ("1", False), ("0", True)):
        monkeypatch.setenv("TTY_COMPATIBLE", terminal)
        open_data(class_folder, resolution=16, progress=progress)
        assert ("reading images" in capsys.readouterr().err) == (terminal == "1" and progress)
