"""The order of the images depends on seed and position alone, with any number of workers and processes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from ganblocks.data.dataset import ImagesInFiles, ImagesInMemory
from ganblocks.data.loader import Sampler, Shard, batches
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError


def shades(images: torch.Tensor) -> list[int]:
    return [int(image[0, 0, 0]) // 20 for image in images]


@pytest.mark.parametrize("flip", [False, True])
def test_the_order_is_a_function_of_seed_and_position(flip):
    sampler = Sampler(10, 3, flip=flip)
    indices, flips = sampler.indices(0, 35)
    for start in (0, 7, 10, 29):
        again = Sampler(10, 3, flip=flip).indices(start, 6)
        np.testing.assert_array_equal(again[0], indices[start : start + 6])
        np.testing.assert_array_equal(again[1], flips[start : start + 6])
    for first in (0, 10, 20):
        assert sorted(indices[first : first + 10]) == list(range(10))
    assert indices[:10].tolist() != indices[10:20].tolist()
    assert flips.any() == flip
    assert not flips.all()
    assert Sampler(10, 4).indices(0, 35)[0].tolist() != indices.tolist()


def test_the_order_is_that_of_earlier_versions():
    indices, flips = Sampler(6, 3, flip=True).indices(4, 6)
    rng = np.random.default_rng([3, 0])
    first, first_flips = rng.permutation(6), rng.random(6) < 0.5
    rng = np.random.default_rng([3, 1])
    second, second_flips = rng.permutation(6), rng.random(6) < 0.5
    assert indices.tolist() == [*first[4:], *second[:4]]
    assert flips.tolist() == [*first_flips[4:], *second_flips[:4]]
    expected = [*np.random.default_rng([3, 0, 1]).random(6)[4:], *np.random.default_rng([3, 1, 1]).random(6)[:4]]
    assert Sampler(6, 3).caption_choices(4, 6).tolist() == expected


def test_batches_larger_than_the_data_set_go_over_it_several_times():
    indices, _ = Sampler(3, 0).indices(1, 8)
    assert len(indices) == 8
    assert sorted(indices[2:5]) == [0, 1, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_files_and_memory_give_the_same_batches_from_any_position(class_folder, workers):
    sampler = {"sampler": Sampler(12, 0, flip=True), "batch_size": 5}
    in_memory = open_data(class_folder, resolution=16, cond_dim=2)
    in_files = open_data(class_folder, resolution=16, cond_dim=2, in_memory=0)
    expected = list(islice(batches(in_memory, position=0, **sampler), 8))
    resumed = list(islice(batches(in_files, position=15, workers=workers, **sampler), 5))
    for one, other in zip(expected[3:], resumed, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_mirrored_images_are_mirrored():
    pixels = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)
    sampler = Sampler(2, 1, flip=True)
    indices, flips = sampler.indices(0, 20)
    batch = next(batches(ImagesInMemory(pixels), sampler, position=0, batch_size=20))
    for index, flip, image in zip(indices, flips, batch.images, strict=True):
        assert torch.equal(image, pixels[index].flip(-1) if flip else pixels[index])


def test_processes_share_a_batch_without_overlap():
    images = ImagesInMemory(torch.arange(32, dtype=torch.uint8).reshape(32, 1, 1, 1))
    whole = next(batches(images, Sampler(32, 0), position=0, batch_size=8)).images
    parts = [
        next(batches(images, Sampler(32, 0), position=0, batch_size=8, shard=Shard(rank, 4))).images
        for rank in range(4)
    ]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_cannot_be_read_is_replaced_by_the_next_and_named(class_folder, workers):
    (class_folder / "a" / "text.png").write_text("not an image")
    images = open_data(class_folder, resolution=16, in_memory=0)
    assert isinstance(images, ImagesInFiles)
    assert len(images) == 13
    batch = next(batches(images, Sampler(13, 0), position=0, batch_size=13, workers=workers))
    assert [(Path(each.path).name, each.reason) for each in batch.skipped] == [("text.png", "is not an image")]
    assert len(batch.images) == 13
    assert set(shades(batch.images)) == set(range(12))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_set_without_a_readable_file_is_refused_without_a_traceback(tmp_path, monkeypatch, workers):
    for index in range(8):
        (tmp_path / f"{index}.png").write_text("bad")
    images = open_data(tmp_path, resolution=16, in_memory=0)
    with pytest.raises(
        DataError, match=r"^none of the 8 image files in .* can be read; the first: .* is not an image$"
    ):
        next(batches(images, Sampler(8, 0), position=0, batch_size=2, workers=workers))
    monkeypatch.setattr("ganblocks.data.loader.MAX_FAILURES", 5)
    with pytest.raises(DataError, match=r"^none of 5 image files in a row in .* can be read"):
        next(batches(images, Sampler(8, 0), position=0, batch_size=2, workers=workers))
