"""The built-in digits: a fixed split, any size, classes and captions."""

from __future__ import annotations

import pytest
import torch

from ganblocks.data.digits import digits
from ganblocks.data.loader import Sampler, batches
from ganblocks.data.sources import list_source, open_data
from ganblocks.errors import DataError


def test_the_split_is_fixed():
    train, held_out = digits("train"), digits("held-out")
    assert (len(train), len(held_out)) == (1437, 360)
    assert train.labels.bincount().min() > 120
    assert held_out.labels.bincount().min() > 25
    assert torch.equal(train.pixels, digits("train").pixels)
    from sklearn.datasets import load_digits

    def rows(pixels):
        return sorted(map(tuple, pixels.flatten(1).tolist()))

    everything = torch.from_numpy(load_digits().images[:, None] * 255 / 16).round().to(torch.uint8)
    assert rows(torch.cat([train.pixels, held_out.pixels])) == rows(everything)


@pytest.mark.parametrize("resolution", [(16, 16), (12, 20), (5, 7)])
def test_digits_are_scaled_to_any_size(resolution):
    images = digits("held-out", resolution, image_channels=3)
    assert images.pixels.shape == (360, 3, *resolution)
    assert torch.equal(images.pixels[:, 0], images.pixels[:, 2])
    assert images.pixels.float().mean() > 20


@pytest.mark.parametrize("cond_dim", [0, 32])
def test_digits_have_captions(cond_dim):
    images = open_data("digits", resolution=8, image_channels=1, captions=True, cond_dim=cond_dim)
    seven = images.labels.tolist().index(7)
    assert "a handwritten seven" in images.captions[seven]
    batch = next(iter(batches(images, Sampler(len(images), 0), position=0, batch_size=4)))
    assert len(batch.captions) == 4


def test_digits_have_no_files_to_list():
    with pytest.raises(DataError, match=r"--data digits: .* have no files; give a folder"):
        list_source("digits?split=held-out")
