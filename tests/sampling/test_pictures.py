"""Pictures, animations and videos carry what made them in their metadata."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import ExifTags, Image

from ganblocks.errors import UsageError
from ganblocks.sampling import pictures
from ganblocks.sampling.interpolation import save_interpolation
from ganblocks.sampling.pictures import MOST_SPEC, destination, made_by, save_animation, save_picture
from ganblocks.sampling.samples import save_samples

COMMAND = "ganblocks sample runs/mine --prompt 'ein süßer Vogel'"


def texts_of(path):
    """The metadata of a file, without the code that wrote it."""
    if path.suffix == ".mp4":
        av = pytest.importorskip("av")
        with av.open(path) as video:
            return json.loads(video.metadata["comment"])
    with Image.open(path) as picture:
        if picture.format == "PNG":
            return dict(picture.text)
        if picture.format == "GIF":
            return json.loads(picture.info["comment"])
        exif = picture.getexif()
    texts = json.loads(exif[ExifTags.Base.ImageDescription])
    assert exif[ExifTags.Base.Software] == texts["Software"]
    return texts


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff"])
def test_a_picture_carries_command_and_spec(model, conditional, tmp_path, suffix):
    save_samples(model, [3, 4], tmp_path / f"grid{suffix}", command=COMMAND)
    texts = texts_of(tmp_path / f"grid{suffix}")
    assert texts["command"] == COMMAND
    assert json.loads(texts["spec"]) == conditional.spec.to_dict()
    assert texts["Software"].startswith("ganblocks ")


@pytest.mark.parametrize("suffix", [".gif", ".apng", ".webp", ".mp4"])
def test_an_animation_carries_command_and_spec(model, conditional, tmp_path, suffix):
    if suffix == ".mp4":
        pytest.importorskip("av")
    save_interpolation(model, [1, 2], tmp_path / f"path{suffix}", steps=2, command=COMMAND)
    texts = texts_of(tmp_path / f"path{suffix}")
    assert texts["command"] == COMMAND
    assert json.loads(texts["spec"]) == conditional.spec.to_dict()


def test_long_metadata_are_cut_so_that_every_format_holds_them(conditional, tmp_path, monkeypatch):
    texts = made_by(conditional, "x" * 9000)
    assert len(texts["command"]) == 4000
    save_picture(Image.new("RGB", (4, 4)), tmp_path / "a.jpg", texts | {"spec": "y" * MOST_SPEC})
    assert len(texts_of(tmp_path / "a.jpg")["spec"]) == MOST_SPEC
    monkeypatch.setattr(pictures, "MOST_SPEC", 50)
    assert "characters, which are too many" in made_by(conditional)["spec"]
    assert "command" not in made_by(conditional)


def test_a_video_has_the_frames_in_their_order_and_even_sides(tmp_path):
    av = pytest.importorskip("av")
    frames = [Image.new("RGB", (33, 17), (shade, 0, 0)) for shade in (10, 120, 250)]
    save_animation(frames, tmp_path / "a.mp4", fps=12.5)
    with av.open(tmp_path / "a.mp4") as video:
        assert float(video.streams.video[0].average_rate) == 12.5
        decoded = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert [frame.shape for frame in decoded] == [(18, 34, 3)] * 3
    for frame, shade in zip(decoded, (10, 120, 250), strict=True):
        assert np.abs(frame[..., 0].astype(int) - shade).max() <= 4, "also in the row and column that were added"
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_video_without_its_package_is_refused_before_images_are_made(model, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    message = r"a\.mp4: \.mp4 needs the package av: pip install 'ganblocks\[video\]'; or write a \.gif"
    with pytest.raises(UsageError, match=message):
        save_interpolation(model.parent / "absent", [1, 2], tmp_path / "a.mp4")
    with pytest.raises(UsageError, match=message):
        save_animation([Image.new("RGB", (4, 4))], tmp_path / "a.mp4")
    assert not (tmp_path / "a.mp4").exists()


def test_the_suffix_selects_a_picture_or_a_folder(tmp_path):
    assert destination(tmp_path / "a.PNG") == ".png"
    assert destination(tmp_path / "samples") == ""
    (tmp_path / "run.v2").mkdir()
    assert destination(tmp_path / "run.v2") == ""
    with pytest.raises(UsageError, match=r"\.txt files cannot be written"):
        destination(tmp_path / "a.txt")


def test_an_animation_keeps_the_order_of_its_frames(tmp_path):
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (10, 120, 250)]
    save_animation(frames, tmp_path / "a.apng", fps=10)
    animation = Image.open(tmp_path / "a.apng")
    shades = []
    for index in range(3):
        animation.seek(index)
        shades.append(animation.convert("RGB").getpixel((0, 0))[0])
    assert shades == [10, 120, 250]
