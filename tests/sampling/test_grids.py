"""Grids, labels, animations and the suffixes of files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ganblocks.errors import UsageError
from ganblocks.sampling.grids import make_grid, save_grid


def test_a_grid_shows_each_image_in_its_cell(tmp_path):
    shades = torch.arange(6, dtype=torch.uint8).mul(40).reshape(6, 1, 1, 1).expand(6, 3, 8, 10)
    save_grid(shades, tmp_path / "grid.png", columns=3, gap=2, scale=1)
    pixels = np.asarray(Image.open(tmp_path / "grid.png"))
    assert pixels.shape == (2 * 8 + 2, 3 * 10 + 2 * 2, 3)
    for index in range(6):
        y, x = index // 3 * 10, index % 3 * 12
        assert (pixels[y : y + 8, x : x + 10] == index * 40).all()
    assert (pixels[8:10] == 255).all()
    assert list(tmp_path.iterdir()) == [tmp_path / "grid.png"]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grids_convert_the_value_range(channels):
    images = torch.full((1, channels, 4, 4), 0.5)
    for value_range, shade in (("symmetric", 191), ("unit", 128)):
        picture = make_grid(images, value_range=value_range, scale=2)
        assert picture.size == (8, 8)
        assert abs(picture.getpixel((3, 3))[0] - shade) <= 1


def test_labels_enlarge_the_grid():
    images = torch.zeros(4, 1, 20, 20)
    plain = make_grid(images)
    labelled = make_grid(images, labels=["one", "two"], row_labels=["first", "second"])
    assert labelled.height > plain.height
    assert labelled.width > plain.width
    with pytest.raises(ValueError, match="at least one image"):
        make_grid(images[:0])


def test_cells_may_be_empty_and_labels_have_several_lines():
    grid = make_grid([None, torch.ones(3, 8, 8)], columns=2, row_labels=["two\nlines"], column_labels=["", "right"])
    assert grid.height > 8
    assert grid.getpixel((grid.width - 1, grid.height - 1)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("count", "columns", "side", "factor"),
    [(1, 1, 16, 32), (16, 4, 16, 8), (8, 8, 32, 2), (6, 2, 30, 6), (4, 2, 256, 1)],
)
def test_small_images_are_enlarged_by_a_whole_factor(count, columns, side, factor):
    images = torch.randint(256, (count, 3, side, side), dtype=torch.uint8)
    picture = np.asarray(make_grid(images, columns=columns, gap=0))
    assert max(picture.shape[:2]) >= 512
    assert picture.shape[1] == columns * side * factor
    assert (picture[::factor, ::factor][:side, :side] == images[0].permute(1, 2, 0).numpy()).all()
    assert np.asarray(make_grid(images, columns=columns, gap=0, scale=1)).shape[1] == columns * side


def test_rows_are_as_high_as_their_labels_and_long_labels_are_broken():
    images = torch.zeros(2, 1, 16, 16)
    label = "a small red bird that sits on a branch of a tree in the snow"
    low = make_grid(images, columns=1, scale=1, row_labels=["a", "b"])
    high = make_grid(images, columns=1, scale=1, row_labels=[label, "b"])
    assert low.height == 2 * 16 + 2
    assert high.height > 2 * 3 * 12
    assert high.width < 260


def test_an_enlargement_that_does_not_fit_into_memory_is_refused(tmp_path):
    images = torch.zeros(6, 3, 8, 10)
    with pytest.raises(UsageError, match=r"6 images of 10 x 8 px would have 4,915,200,000 px.*scale of at most 1495"):
        save_grid(images, tmp_path / "grid.png", scale=3200)
