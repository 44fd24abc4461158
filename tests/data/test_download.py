"""Data sets that fsspec opens: copied once, then read like local ones."""

from __future__ import annotations

import io

import fsspec
import pytest
from PIL import Image

from ganblocks import open_data
from ganblocks.data.preparation import download as downloads
from ganblocks.data.preparation.download import download
from ganblocks.errors import DataError


def png(value):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """Four images of two classes on a file system in memory."""
    monkeypatch.setenv("GANBLOCKS_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    for number in range(4):
        system.pipe(f"/bucket/{'ab'[number % 2]}/{number}.png", png(60 * number))
    yield system
    system.rm("/bucket", recursive=True)


def test_a_remote_folder_is_read_with_its_classes(remote):
    images = open_data("memory://bucket", resolution=8, cond_dim=2)
    assert images.name == "memory://bucket"
    assert images.class_names == ("a", "b")
    assert sorted(images.pixels[:, 0, 0, 0].tolist()) == [0, 60, 120, 180]


def test_files_are_copied_once_and_again_when_their_size_changes(remote):
    steps = []
    folder = download("memory://bucket", lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1] == sum(path.stat().st_size for path in folder.rglob("*.png"))
    steps.clear()
    assert download("memory://bucket", lambda done, total: steps.append(done)) == folder
    assert not steps
    remote.pipe("/bucket/a/0.png", png(0) + b"more")
    download("memory://bucket", lambda done, total: steps.append(done))
    assert len(steps) == 1


def test_a_single_file_can_be_named(remote):
    remote.pipe("/bucket/one.png", png(7))
    assert download("memory://bucket/one.png").name == "one.png"


def test_a_failed_copy_leaves_nothing_and_continues_later(remote, monkeypatch, tmp_path):
    opened = []

    def breaks(self, path, *args, **kwargs):
        opened.append(path)
        if len(opened) == 3:
            raise ConnectionError("the network is down")
        return original(self, path, *args, **kwargs)

    original = type(remote).open
    monkeypatch.setattr(type(remote), "open", breaks)
    with pytest.raises(DataError, match=r"cannot be copied: ConnectionError: the network is down"):
        download("memory://bucket")
    assert len([path for path in (tmp_path / "cache").rglob("*") if path.is_file()]) == 2
    download("memory://bucket")
    assert len(opened) == 5


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("memory://nothing-here", "there is no such file or folder"),
        ("nosuchscheme://bucket", "Protocol not known: nosuchscheme"),
    ],
)
def test_what_is_not_there_is_an_error(url, words, remote):
    with pytest.raises(DataError) as error:
        open_data(url, resolution=8)
    assert words in str(error.value)


def test_a_disk_that_is_too_small_is_an_error_before_copying(remote, monkeypatch):
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(
        DataError, match=r"set GANBLOCKS_CACHE to a larger disk, or have .*'shards\?path=memory://bucket'"
    ):
        download("memory://bucket")
