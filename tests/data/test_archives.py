"""Zips and tar shards: every image is read or named with the reason why it is not."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import torch

from ganblocks.data.archives import Member, samples_of
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError
from tests.data.files import SHADES, open_captioned, png, reasons, shades, shards, write_files, write_tar, write_zip


def numbered(count: int) -> list[tuple[str, bytes]]:
    return [(f"{index}.png", png(index * 20)) for index in range(count)]


def set_zip_header(path: Path, name: str, offset: int, value: int) -> None:
    """Change two bytes of an entry's header in the table of contents, and in the entry itself."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
    start = data.index(name.encode(), data.index(b"PK\x01\x02")) - 46
    struct.pack_into("<H", data, start + offset, value)
    struct.pack_into("<H", data, info.header_offset + offset - 2, value)
    path.write_bytes(data)


def test_an_encrypted_member_of_a_zip_is_skipped(tmp_path):
    path = write_zip(tmp_path / "a.zip", numbered(3))
    set_zip_header(path, "1.png", 8, 1)
    images = open_data(path, resolution=8)
    assert shades(images) == [0, 40]
    assert reasons(images) == {"1.png": "is encrypted; unpack the archive with its password"}


def test_a_member_of_a_zip_packed_by_deflate64_is_skipped(tmp_path):
    path = write_zip(tmp_path / "a.zip", numbered(3))
    set_zip_header(path, "1.png", 10, 9)
    images = open_data(path, resolution=8)
    assert shades(images) == [0, 40]
    assert reasons(images) == {
        "1.png": "is compressed by a method that is not supported (Deflate64); unpack the archive with 7z x"
    }


def test_a_member_of_a_zip_with_a_wrong_checksum_is_skipped(tmp_path):
    path = write_zip(tmp_path / "a.zip", numbered(3))
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("1.png").header_offset + 30 + len("1.png")
    data = bytearray(path.read_bytes())
    data[start + 20] ^= 255
    path.write_bytes(data)
    images = open_data(path, resolution=8)
    assert shades(images) == [0, 40]
    assert reasons(images)["1.png"].startswith("is damaged: ")
    assert images.summary == (f"1 of 3 files skipped: 1 x {reasons(images)['1.png'].partition(':')[0]}",)


def test_a_damaged_caption_in_a_zip_skips_its_image_only(tmp_path):
    files = [(f"{index}.{suffix}", data) for index in range(3) for suffix, data in (("png", png(index)), ("txt", "c"))]
    path = write_zip(tmp_path / "a.zip", files)
    set_zip_header(path, "1.txt", 8, 1)
    images = open_captioned(path)
    assert shades(images) == [0, 2]
    assert reasons(images) == {"1.png": "its .txt file is encrypted; unpack the archive with its password"}


def test_files_of_operating_systems_and_hidden_files_are_not_read(tmp_path):
    names = ["__MACOSX/cats/._0.png", "cats/._0.png", ".thumbnails/0.png", "dogs/@eaDir/0.png", "cats/.hidden.png"]
    files = [*((name, png(9)) for name in names), ("cats/0.png", png(20)), ("dogs/0.png", png(40))]
    sources = [
        write_zip(tmp_path / "a.zip", files),
        write_tar(tmp_path / "shard" / "a.tar", [(f"./{name}", data) for name, data in files]),
        write_files(tmp_path / "folder", dict(files)),
    ]
    for source in sources:
        images = open_data(source, resolution=8, cond_dim=2)
        assert images.class_names == ("cats", "dogs")
        assert shades(images) == [20, 40]


def test_suffixes_in_upper_case_are_read(tmp_path):
    assert len(open_data(write_zip(tmp_path / "A.ZIP", numbered(2)), resolution=8)) == 2
    assert len(open_data(write_tar(tmp_path / "A.TAR", [("0.PNG", png(0))]), resolution=8)) == 1


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_entries_of_a_zip_with_one_name_the_last_is_read_and_the_other_named(tmp_path):
    path = write_zip(tmp_path / "a.zip", [*numbered(2), ("0.png", png(200))])
    images = open_data(path, resolution=8)
    assert shades(images) == [200, 20]
    assert reasons(images) == {"0.png": "is followed by another entry of the same name"}


def test_backslashes_of_zips_from_windows_separate_folders(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("cats\\0.png", "dogs\\0.png"):
            info = zipfile.ZipInfo("placeholder")
            info.filename, info.create_system = name, 0
            archive.writestr(info, png(0))
    assert open_data(path, resolution=8, cond_dim=2).class_names == ("cats", "dogs")


def test_a_folder_around_all_of_a_zip_is_not_a_class(tmp_path):
    files = [(f"all/images/{name}/0.png", png(shade)) for name, shade in (("cats", 20), ("dogs", 40))]
    images = open_data(write_zip(tmp_path / "a.zip", files), resolution=8, cond_dim=2)
    assert images.class_names == ("cats", "dogs")
    with_table = write_zip(tmp_path / "b.zip", [*files, ("all/dataset.json", '{"labels": [["images/cats/0.png", 1], '
                                                         '["images/dogs/0.png", 0]]}')])  # fmt: skip
    assert open_data(with_table, resolution=8, cond_dim=2).labels.tolist() == [1, 0]


def test_archives_without_images_and_damaged_ones_are_refused(tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match=r"cannot be read as a zip: File is not a zip file; it may be cut short"):
        open_data(tmp_path / "broken.zip", resolution=8)
    with pytest.raises(DataError, match=r"has no image files .* but 1 other$"):
        open_data(write_zip(tmp_path / "empty.zip", [("readme.md", "no images")]), resolution=8)
    with pytest.raises(DataError, match=r"no sample with an image in 1 shard"):
        open_data(write_tar(tmp_path / "empty.tar", [("readme.md", "no images")]), resolution=8)


@pytest.mark.parametrize("suffix", ["txt", "json"])
def test_samples_of_shards_have_captions(tmp_path, suffix):
    images = open_captioned(shards(tmp_path / "shards", suffix))
    assert list(images.captions) == [(f"shade {index}",) for index in range(5)]
    assert shades(images) == list(SHADES)
    assert len(open_captioned(tmp_path / "shards" / "00001.tar")) == 3


def test_samples_of_shards_have_classes(tmp_path):
    images = open_captioned(shards(tmp_path / "shards", "cls"), captions=False, cond_dim=2)
    assert images.labels.tolist() == [0, 1, 0, 1, 0]


def test_the_samples_before_the_end_of_a_cut_shard_are_used(tmp_path):
    images = open_captioned(shards(tmp_path / "shards", cut=2100))
    assert list(images.captions) == [("shade 0",), ("shade 1",), ("shade 2",)]
    assert reasons(images) == {"00001.tar": "is cut short"}


def test_names_with_dots_in_a_shard_are_images_of_their_own(tmp_path):
    files = [
        (f"frame.{index:04d}.{suffix}", data)
        for index in range(30)
        for suffix, data in (("png", png(index)), ("txt", f"frame {index}"))
    ]
    images = open_captioned(write_tar(tmp_path / "a.tar", files))
    assert shades(images) == list(range(30))
    assert list(images.captions) == [(f"frame {index}",) for index in range(30)]
    assert images.notes == (f"1 sample with more than one image, such as {tmp_path}/a.tar/frame with 30; each is used",)


def test_equal_names_in_one_shard_and_in_two_are_images_of_their_own(tmp_path):
    files = [(name, data) for shade in (10, 20) for name, data in (("a.png", png(shade)), ("a.txt", str(shade)))]
    write_tar(tmp_path / "shards" / "0.tar", files)
    write_tar(tmp_path / "shards" / "1.tar", [("a.png", png(30)), ("a.txt", "30")])
    images = open_captioned(tmp_path / "shards")
    assert shades(images) == [10, 20, 30]
    assert list(images.captions) == [("10",), ("20",), ("30",)]


def test_two_images_of_one_sample_share_its_caption(tmp_path):
    files = [("0.img.png", png(10)), ("0.seg.png", png(20)), ("0.txt", "both"), ("1.orig.png", png(30))]
    images = open_captioned(write_tar(tmp_path / "a.tar", [*files, ("1.txt", "one")]))
    assert shades(images) == [10, 20, 30]
    assert list(images.captions) == [("both",), ("both",), ("one",)]
    assert "such as" in images.notes[0]


def test_links_in_a_shard_are_named(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("0.png")
        info.size = len(png(0))
        archive.addfile(info, io.BytesIO(png(0)))
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.LNKTYPE, "0.png"
        archive.addfile(link)
    images = open_data(path, resolution=8)
    assert len(images) == 1
    assert reasons(images) == {"1.png": "is stored as a link, which is not read"}


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar"])
def test_a_compressed_tar_is_refused_with_the_tool_that_unpacks_it(tmp_path, name):
    folder = write_files(tmp_path / "folder", {name: gzip.compress(b"tar")})
    for source in (folder / name, folder):
        with pytest.raises(DataError, match=rf"a compressed archive \(\.t?gz\).*; unpack it first: gunzip .*{name}"):
            open_data(source, resolution=8)


def test_a_folder_of_zips_is_refused_with_the_name_of_one(tmp_path):
    write_zip(tmp_path / "a.zip", numbered(1))
    with pytest.raises(DataError, match=r"has no image files but 1 \.zip; pass one of them: --data .*a\.zip"):
        open_data(tmp_path, resolution=8)


def test_archives_beside_images_are_named(tmp_path):
    write_tar(tmp_path / "a.tar", numbered(1))
    write_files(tmp_path, dict(numbered(2)))
    images = open_data(tmp_path, resolution=8)
    assert len(images) == 2
    assert images.notes == ("archives beside the images are not read: 1 x .tar",)


def test_a_member_beyond_the_size_limit_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr("ganblocks.data.archives.MAX_MEMBER", 10_000)
    files = [*numbered(1), ("bomb.png", b"\x89PNG\r\n\x1a\n" + bytes(20_000))]
    images = open_data(write_zip(tmp_path / "a.zip", files), resolution=8)
    assert reasons(images) == {"bomb.png": "is too large: 20,008 bytes; the limit is 10,000"}


def test_a_zip_is_read_again_after_it_has_changed(tmp_path):
    for shade in (10, 20):
        write_zip(tmp_path / "a.zip", [("0.png", png(shade))])
        os.utime(tmp_path / "a.zip", (0, 0))
        assert torch.unique(open_data(tmp_path / "a.zip", resolution=8).read(0)).tolist() == [shade]


def test_pictures_of_other_formats_in_a_shard_are_named(tmp_path):
    images = open_data(write_tar(tmp_path / "a.tar", [("0.png", png(0)), ("1.heic", b"x")]), resolution=8)
    assert reasons(images) == {"1.heic": ".heic is not read: convert it to PNG or JPEG"}


def test_a_sample_of_many_images_is_split_in_linear_time():
    count = 20_000
    members = [Member("a.tar", f"frame.{index:05d}.png", 0, 0, False) for index in range(count)]
    start = time.perf_counter()
    assert len(list(samples_of(members))) == count
    assert time.perf_counter() - start < 5  # pairs of them would take minutes
