"""`ganblocks data check` and `ganblocks data prepare`: what is found, and what the shards contain."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from ganblocks import open_data
from ganblocks.data import index
from ganblocks.data.archives import Member
from ganblocks.data.preparation import prepare as preparation
from ganblocks.data.preparation.check import check_data
from ganblocks.data.preparation.prepare import prepare_data
from ganblocks.data.preparation.shards import make_shard
from ganblocks.errors import DataError, UsageError
from tests.data.files import png, write_zip


class InThisProcess:
    """An executor that runs everything at once; starting processes takes seconds."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def submit(self, function, *arguments):
        from concurrent.futures import Future

        future = Future()
        try:
            future.set_result(function(*arguments))
        except OSError as error:
            future.set_exception(error)
        return future

    def shutdown(self, **_):
        pass


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.setattr(preparation, "ProcessPoolExecutor", InThisProcess)


@pytest.fixture
def photos(tmp_path):
    """24 images of two classes with captions, a duplicate and a damaged file among them."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for number in range(24):
        path = folder / ("cats" if number % 2 else "dogs") / f"image {number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30 if number else 40, 3), np.uint8)).save(path)
        path.with_suffix(".txt").write_text(f"picture {number}\nanother caption\n")
    (folder / "cats" / "image 1.png").write_bytes((folder / "dogs" / "image 0.png").read_bytes())
    (folder / "dogs" / "image 2.png").write_bytes((folder / "dogs" / "image 2.png").read_bytes()[:100])
    return folder


def test_a_check_counts_sizes_duplicates_labels_and_unreadable_files(photos):
    report = check_data(photos)
    assert report.images == 23
    assert report.sizes == {(30, 20): 21, (40, 20): 2}
    assert report.modes == {"RGB": 23}
    assert report.formats == {"PNG": 23}
    assert [sorted(group) for group in report.duplicates] == [
        [str(photos / "cats" / "image 1.png"), str(photos / "dogs" / "image 0.png")]
    ]
    assert [each.path for each in report.unreadable] == [str(photos / "dogs" / "image 2.png")]
    assert report.classes == {"cats": 12, "dogs": 12}
    assert report.captions == 48
    assert json.loads(json.dumps(report.to_dict()))["sizes"] == {"30x20": 21, "40x20": 2}


def test_a_check_says_why_there_are_no_labels(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    report = check_data(tmp_path)
    assert report.classes is None
    assert report.captions is None
    assert [note.split(":")[0] for note in report.notes] == ["no classes", "no captions"]


def test_shards_hold_the_resized_images_with_their_classes_and_captions(photos, tmp_path):
    manifest = prepare_data(photos, tmp_path / "out", resolution=16, num_shards=3)
    assert manifest.complete
    assert manifest.images == {"train": 23}
    assert manifest.class_names == ["cats", "dogs"]
    assert [path for path, _ in manifest.skipped] == [str(photos / "dogs" / "image 2.png")]
    direct = open_data(photos, resolution=16, cond_dim=2)
    prepared = open_data(tmp_path / "out" / "train", resolution=16, cond_dim=2)
    assert prepared.pixels.equal(direct.pixels)
    assert prepared.labels.equal(direct.labels)
    captions = open_data(tmp_path / "out" / "train", resolution=16, captions=True).captions
    assert sorted(captions) == sorted(open_data(photos, resolution=16, captions=True).captions)
    for shard in manifest.shards:
        content = (tmp_path / "out" / shard.file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == shard.sha256


def test_the_held_out_split_is_disjoint_and_the_same_each_time(photos, tmp_path):
    first = prepare_data(photos, tmp_path / "first", resolution=8, holdout=0.4)
    second = prepare_data(photos, tmp_path / "second", resolution=8, holdout=0.4)
    assert first == second
    assert sum(first.images.values()) == 23
    assert 3 < first.images["held-out"] < 20
    splits = [open_data(tmp_path / "first" / split, resolution=8).pixels for split in ("train", "held-out")]
    train, held_out = ({image.numpy().tobytes() for image in split} for split in splits)
    assert len(train & held_out) <= 1  # the duplicate


@pytest.mark.parametrize(
    ("option", "value"),
    [("resize_filter", "box"), ("crop", "pad"), ("image_format", "jpeg"), ("image_channels", 1), ("num_shards", 2)],
)
def test_each_option_changes_the_shards(option, value, photos, tmp_path):
    plain = prepare_data(photos, tmp_path / "plain", resolution=16, num_shards=1)
    changed = prepare_data(photos, tmp_path / "changed", **{"resolution": 16, "num_shards": 1, option: value})
    assert [each.sha256 for each in plain.shards] != [each.sha256 for each in changed.shards]


def test_padding_keeps_the_whole_image(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (40, 20), "black").save(tmp_path / "in" / "wide.png")
    prepare_data(tmp_path / "in", tmp_path / "out", resolution=16, crop="pad")
    (pixels,) = open_data(tmp_path / "out" / "train", resolution=16).pixels
    assert pixels[0, :, 8].tolist() == [255] * 4 + [0] * 8 + [255] * 4


def test_an_interrupted_conversion_continues_with_the_missing_shards(photos, tmp_path, monkeypatch):
    made = []

    def fails_at_the_third(file, samples, options):
        if len(made) == 2:
            raise OSError(28, "No space left on device")
        made.append(file.name)
        return make_shard(file, samples, options)

    monkeypatch.setattr(preparation, "make_shard", fails_at_the_third)
    with pytest.raises(OSError, match="No space"):
        prepare_data(photos, tmp_path / "out", resolution=16, num_shards=4)
    with pytest.raises(DataError, match="differently: resolution 16 there, 32 now; choose a new folder"):
        prepare_data(photos, tmp_path / "out", resolution=32, num_shards=4)
    monkeypatch.setattr(
        preparation, "make_shard", lambda file, *rest: made.append(file.name) or make_shard(file, *rest)
    )
    resumed = prepare_data(photos, tmp_path / "out", resolution=16, num_shards=4)
    assert made == ["00000.tar", "00001.tar", "00002.tar", "00003.tar"]
    assert resumed.shards == prepare_data(photos, tmp_path / "again", resolution=16, num_shards=4).shards
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "train"]


def test_a_folder_with_other_files_is_refused(photos, tmp_path):
    with pytest.raises(DataError, match="is not empty; choose a new folder"):
        prepare_data(photos, photos, resolution=16)
    with pytest.raises(UsageError, match="holdout"):
        prepare_data(photos, tmp_path / "out", resolution=16, holdout=1.0)
    assert not (tmp_path / "out").exists()


def test_images_of_which_none_can_be_read_are_an_error(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"text")
    with pytest.raises(DataError, match="none of the 1 image files"):
        prepare_data(tmp_path / "in", tmp_path / "out", resolution=16)


def test_an_archive_is_listed_once_and_its_images_are_read_once(tmp_path, monkeypatch):
    files = {f"{name}/{number}.png": png(40 * number) for name in ("a", "b") for number in range(3)}
    archive = write_zip(tmp_path / "images.zip", [*files.items(), ("a/0.txt", "a caption")])
    listed, opened = [], []
    list_zip, open_member = index.list_zip, Member.open
    monkeypatch.setattr(index, "list_zip", lambda path: listed.append(path) or list_zip(path))
    monkeypatch.setattr(Member, "open", lambda member: opened.append(member.inner) or open_member(member))
    report = check_data(archive)
    assert (report.images, report.classes, report.captions) == (6, {"a": 3, "b": 3}, None)
    assert listed == [archive]
    assert sorted(name for name in opened if name.endswith(".png")) == sorted(files)
    listed.clear()
    opened.clear()
    prepare_data(archive, tmp_path / "out", resolution=8, num_shards=2)
    assert listed == [archive]
    assert sorted(name for name in opened if name.endswith(".png")) == sorted(files)
