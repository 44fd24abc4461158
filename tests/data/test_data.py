"""Images come in any sort of file and go out in one shape, in an order that only seed and position decide."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganblocks.data.dataset import ImagesInFiles, ImagesInMemory
from ganblocks.data.decode import decode
from ganblocks.data.digits import digits
from ganblocks.data.loader import Sampler, Shard, batches
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError
from ganblocks.pixels import from_bytes, from_symmetric, to_bytes, to_symmetric


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images of as many shades in two subfolders."""
    for index in range(12):
        path = tmp_path / "images" / "ab"[index % 2] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 16), (index * 20,) * 3).save(path)
    return tmp_path / "images"


def shades(images: torch.Tensor) -> list[int]:
    return [int(image[0, 0, 0]) // 20 for image in images]


MODES = [
    ("1", 255, "png", 255),
    ("L", 100, "png", 100),
    ("LA", (100, 255), "png", 100),
    ("P", 3, "png", 3),
    ("RGB", (100, 100, 100), "bmp", 100),
    ("RGB", (100, 100, 100), "jpg", 100),
    ("RGB", (100, 100, 100), "webp", 100),
    ("RGBA", (100, 100, 100, 255), "png", 100),
    ("RGBA", (0, 0, 0, 0), "png", 255),
    ("CMYK", (0, 0, 0, 255), "jpg", 0),
    ("I;16", 100 * 256 + 7, "png", 100),
]


@pytest.mark.parametrize(("mode", "colour", "suffix", "shade"), MODES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_mode_becomes_the_channels_asked_for(tmp_path, mode, colour, suffix, shade, channels):
    path = tmp_path / f"image.{suffix}"
    image = Image.new(mode, (9, 7), colour)
    if mode == "P":
        image.putpalette([value for value in range(256) for _ in range(3)])
    image.save(path)
    pixels = decode(path, (8, 6), channels, "lanczos")
    assert pixels.shape == (channels, 8, 6)
    transparent = mode == "RGBA" and colour[3] == 0
    if not (transparent and channels == 4):
        assert np.abs(pixels[: min(channels, 3)].astype(int) - shade).max() <= 2
    if channels == 4:
        assert (pixels[3] == (0 if transparent else 255)).all()


def test_an_image_is_resized_to_cover_and_cropped_in_the_middle(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200  # the middle third
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert (decode(tmp_path / "wide.png", (10, 10), 3, "box") == 200).all()
    tall = decode(tmp_path / "wide.png", (5, 15), 3, "box")
    assert (tall[0, 0, :5] == 0).all()
    assert (tall[0, 0, 5:10] == 200).all()


def test_the_resize_filter_matters(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    found = {
        name: decode(tmp_path / "noise.png", (8, 8), 3, name) for name in ("lanczos", "bicubic", "bilinear", "box")
    }
    np.testing.assert_allclose(found["box"][:, 0, 0], noise[:4, :4].mean(axis=(0, 1)), atol=1)
    assert len({pixels.tobytes() for pixels in found.values()}) == 4


def test_an_image_is_turned_as_its_exif_data_says(tmp_path):
    array = np.zeros((8, 8), np.uint8)
    array[:4] = 200
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(array).save(tmp_path / "turned.png", exif=exif)
    pixels = decode(tmp_path / "turned.png", (8, 8), 1, "box")
    assert (pixels[0, 4:] == 200).all()
    assert (pixels[0, :4] == 0).all()


def test_corrupt_images_are_left_out_and_named(folder):
    whole = (folder / "a" / "00.png").read_bytes()
    (folder / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "text.jpg").write_text("not an image")
    (folder / "b" / "empty.webp").touch()
    (folder / "notes.txt").write_text("no image, and not called one")
    (folder / ".hidden.png").write_text("hidden")
    images = open_data(folder, resolution=16)
    assert len(images) == 12
    assert sorted(Path(each.path).name for each in images.skipped) == ["cut.png", "empty.webp", "text.jpg"]
    assert "is not an image" in {each.reason for each in images.skipped}


def test_corrupt_images_have_stand_ins_where_files_are_read_later(folder):
    (folder / "a" / "text.png").write_text("not an image")
    images = open_data(folder, resolution=16, in_memory=0)
    assert isinstance(images, ImagesInFiles)
    assert len(images) == 13
    batch = next(batches(images, Sampler(13, 0), position=0, batch_size=13))
    assert [Path(each.path).name for each in batch.skipped] == ["text.png"]
    assert len(batch.images) == 13
    assert set(shades(batch.images)) == set(range(12))


def test_a_folder_without_good_images_is_an_error(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        open_data(tmp_path / "nowhere", resolution=16)
    with pytest.raises(DataError, match=r"has no image files.*it is empty"):
        open_data(tmp_path, resolution=16)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"has no image files.*1 x \.txt"):
        open_data(tmp_path, resolution=16)
    with pytest.raises(DataError, match="is a file"):
        open_data(tmp_path / "notes.txt", resolution=16)
    (tmp_path / "bad.png").write_text("bad")
    with pytest.raises(
        DataError, match=r"none of the 1 image files .* can be read; the first: .*bad\.png: is not an image"
    ):
        open_data(tmp_path, resolution=16)
    images = open_data(tmp_path, resolution=16, in_memory=0)
    with pytest.raises(DataError, match="none of the 1 image files"):
        next(batches(images, Sampler(1, 0), position=0, batch_size=2))


def test_subfolders_are_classes_where_the_generator_wants_them(folder):
    images = open_data(folder, resolution=16, cond_dim=2)
    assert images.class_names == ("a", "b")
    assert images.labels.tolist() == [0] * 6 + [1] * 6
    assert open_data(folder, resolution=16).labels is None
    with pytest.raises(DataError, match=r"has 2 classes \(a, b\), the generator's cond_dim is 3"):
        open_data(folder, resolution=16, cond_dim=3)
    Image.new("RGB", (4, 4)).save(folder / "loose.png")
    with pytest.raises(DataError, match=r"1 do not, such as loose\.png"):
        open_data(folder, resolution=16, cond_dim=2)


def test_images_of_another_shape_are_an_error():
    with pytest.raises(DataError, match=r"not bytes of shape \(3, 16, 16\)"):
        open_data(ImagesInMemory(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)), resolution=16)
    with pytest.raises(DataError, match="images of 2 channels"):
        open_data("digits", resolution=16, image_channels=2)


def test_digits_split_always_alike():
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


@pytest.mark.parametrize("flip", [False, True])
def test_order_is_a_function_of_seed_and_position(flip):
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


def test_batches_larger_than_the_data_set_go_over_it_several_times():
    indices, _ = Sampler(3, 0).indices(1, 8)
    assert len(indices) == 8
    assert sorted(indices[2:5]) == [0, 1, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_files_and_memory_give_the_same_batches_from_any_position(folder, workers):
    sampler = {"sampler": Sampler(12, 0, flip=True), "batch_size": 5}
    in_memory = open_data(folder, resolution=16, cond_dim=2)
    in_files = open_data(folder, resolution=16, cond_dim=2, in_memory=0)
    expected = list(islice(batches(in_memory, position=0, **sampler), 8))
    found = list(islice(batches(in_files, position=15, workers=workers, **sampler), 5))
    for a, b in zip(expected[3:], found, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


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


@pytest.mark.parametrize("value_range", ["symmetric", "unit", "imagenet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_ranges_lose_nothing(value_range, channels):
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, channels, -1, -1)
    values = from_bytes(pixels, value_range)
    assert torch.equal(to_bytes(values, value_range), pixels)
    torch.testing.assert_close(from_symmetric(to_symmetric(values, value_range), value_range), values)


def test_ranges_are_what_they_say():
    ends = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert from_bytes(ends, "symmetric")[0, 0, 0].tolist() == [-1, 1]
    assert from_bytes(ends, "unit")[0, 0, 0].tolist() == [0, 1]
    red = from_bytes(ends, "imagenet")[0, 0, 0]
    torch.testing.assert_close(red, (torch.tensor([0.0, 1.0]) - 0.485) / 0.229)
    with pytest.raises(ValueError, match="unknown value range"):
        from_bytes(ends, "bytes")
