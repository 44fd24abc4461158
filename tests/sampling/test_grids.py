"""Grids, labels, animations and the suffixes of files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ganblocks.errors import UsageError
from ganblocks.sampling.grids import destination, make_grid, save_animation, save_grid


def test_a_grid_shows_each_image_in_its_cell(tmp_path):
    shades = torch.arange(6, dtype=torch.uint8).mul(40).reshape(6, 1, 1, 1).expand(6, 3, 8, 10)
    save_grid(shades, tmp_path / "grid.png", columns=3, gap=2)
    pixels = np.asarray(Image.open(tmp_path / "grid.png"))
    assert pixels.shape == (2 * 8 + 2, 3 * 10 + 2 * 2, 3)
    for index in range(6):
        y, x = index // 3 * 10, index % 3 * 12
        assert (pixels[y : y + 8, x : x + 10] == index * 40).all()
    assert (pixels[8:10] == 255).all()
    assert list(tmp_path.iterdir()) == [tmp_path / "grid.png"]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grids_convert_the_value_range(tmp_path, channels):
    images = torch.full((1, channels, 4, 4), 0.5)
    for value_range, shade in (("symmetric", 191), ("unit", 128)):
        picture = make_grid(images, value_range=value_range, scale=2)
        assert picture.size == (8, 8)
        assert abs(picture.getpixel((3, 3))[0] - shade) <= 1


def test_labels_enlarge_the_grid(tmp_path):
    images = torch.zeros(4, 1, 20, 20)
    plain, labelled = make_grid(images), make_grid(images, labels=["one", "two"], row_labels=["first", "second"])
    assert labelled.height > plain.height
    assert labelled.width > plain.width
    with pytest.raises(ValueError, match="at least one image"):
        make_grid(images[:0])


def test_the_suffix_selects_a_picture_or_a_folder(tmp_path):
    assert destination(tmp_path / "a.PNG") == ".png"
    assert destination(tmp_path / "samples") == ""
    (tmp_path / "run.v2").mkdir()
    assert destination(tmp_path / "run.v2") == ""
    with pytest.raises(UsageError, match=r"\.txt files cannot be written"):
        destination(tmp_path / "a.txt")


def test_cells_may_be_empty_and_labels_have_several_lines():
    grid = make_grid([None, torch.ones(3, 8, 8)], columns=2, row_labels=["two\nlines"], column_labels=["", "right"])
    assert grid.height > 8
    assert grid.getpixel((grid.width - 1, grid.height - 1)) == (255, 255, 255)


def test_an_animation_keeps_the_order_of_its_frames(tmp_path):
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (10, 120, 250)]
    save_animation(frames, tmp_path / "a.apng", fps=10)
    animation = Image.open(tmp_path / "a.apng")
    shades = []
    for index in range(3):
        animation.seek(index)
        shades.append(animation.convert("RGB").getpixel((0, 0))[0])
    assert shades == [10, 120, 250]
