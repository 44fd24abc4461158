"""Image files of every mode, depth and orientation are decoded to bytes of one shape; damaged ones are refused."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganblocks.data import decode as decoding
from ganblocks.data.archives import list_zip
from ganblocks.data.decode import Budget, decode
from ganblocks.data.locations import SizedReader
from ganblocks.data.skipped import UnreadableError
from tests.data.files import grey_tiff, png, raw_png, write_zip

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
    ("LAB", (108, 128, 128), "tif", 100),  # L* = 42 in 8 bits
]
WHITE = 255


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def row(path: Path, width: int, channels: int = 1) -> list[int] | list[list[int]]:
    """The first row of an image with its own width."""
    pixels = decode(path, (1, width), channels, "box")[:, 0]
    return pixels[0].tolist() if channels == 1 else pixels.T.tolist()


@pytest.mark.parametrize(("mode", "colour", "suffix", "shade"), MODES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_mode_is_converted_to_the_channels_of_the_generator(tmp_path, mode, colour, suffix, shade, channels):
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


@pytest.mark.parametrize(
    ("bits", "values", "expected"),
    [
        (12, [0, 16, 2048, 4095], [0, 1, 128, 255]),
        (16, [0, 256, 32768, 65535], [0, 1, 128, 255]),
        (8, [0, 1, 128, 255], [0, 1, 128, 255]),
    ],
)
def test_a_tiff_is_scaled_by_the_depth_that_it_declares(tmp_path, bits, values, expected):
    assert row(written(tmp_path / "a.tif", grey_tiff(values, bits)), 4) == expected


@pytest.mark.parametrize(("bits", "top"), [(8, 255), (16, 65535)])
def test_a_tiff_whose_zero_is_white_is_inverted(tmp_path, bits, top):
    path = written(tmp_path / "a.tif", grey_tiff([0, top], bits, white_is_zero=True))
    assert row(path, 2) == [255, 0]


def test_integers_outside_of_16_bits_and_floating_point_numbers_are_refused(tmp_path):
    for values in ([0, 65535], [-1, 5], [0, 65536]):
        Image.fromarray(np.array([values], np.int32)).save(tmp_path / "a.tif")
        if values == [0, 65535]:
            assert row(tmp_path / "a.tif", 2) == [0, 255]
            continue
        with pytest.raises(UnreadableError, match=rf"has values from {values[0]} to {values[1]}, outside of 16 bits"):
            row(tmp_path / "a.tif", 2)
    Image.fromarray(np.array([[0.5]], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableError, match="floating-point values of unknown range"):
        row(tmp_path / "a.tif", 1)


@pytest.mark.parametrize(
    ("bits", "colour_type", "pixels", "transparent", "opaque"),
    [
        (1, 0, b"\x80", b"\0\1", [0, 0, 0]),
        (2, 0, b"\xd0", b"\0\3", [85, 85, 85]),
        (4, 0, b"\xf5", b"\0\x0f", [85, 85, 85]),
        (8, 0, b"\x07\x55", b"\0\x07", [85, 85, 85]),
        (16, 0, b"\x12\x34\x55\x00", b"\x12\x34", [85, 85, 85]),
        (8, 2, b"\1\2\3\4\5\6", b"\0\1\0\2\0\3", [4, 5, 6]),
        (16, 2, b"\1\2\3\4\5\6\x10\0\x11\0\x12\0", b"\1\2\3\4\5\6", [16, 17, 18]),
    ],
)
def test_the_transparent_colour_of_a_png_is_a_hole_at_every_depth(
    tmp_path, bits, colour_type, pixels, transparent, opaque
):
    path = written(tmp_path / "a.png", raw_png(pixels, 2, bits, colour_type, transparent))
    assert row(path, 2, 3) == [[WHITE] * 3, opaque]
    left, right = row(path, 2, 4)
    assert (left[3], right) == (0, [*opaque, 255])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_may_be_written_to(tmp_path, channels):
    Image.new("L", (8, 8), 100).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of memory that may not be written to
        pixels = torch.from_numpy(decode(tmp_path / "a.png", (8, 8), channels, "box"))
    assert pixels.fill_(3).unique().tolist() == [3]


def test_an_image_is_resized_to_cover_and_cropped_at_the_centre(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200  # the middle third
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert (decode(tmp_path / "wide.png", (10, 10), 3, "box") == 200).all()
    tall = decode(tmp_path / "wide.png", (5, 15), 3, "box")
    assert (tall[0, 0, :5] == 0).all()
    assert (tall[0, 0, 5:10] == 200).all()


def test_resize_filters_give_different_images(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    filters = ("lanczos", "bicubic", "bilinear", "box")
    images = {name: decode(tmp_path / "noise.png", (8, 8), 3, name) for name in filters}
    np.testing.assert_allclose(images["box"][:, 0, 0], noise[:4, :4].mean(axis=(0, 1)), atol=1)
    assert len({pixels.tobytes() for pixels in images.values()}) == 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_an_image_is_rotated_as_its_exif_data_says(tmp_path, suffix, orientation):
    array = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    turned = {2: array[:, ::-1], 3: array[::-1, ::-1], 4: array[::-1], 5: array.T, 6: array.T[:, ::-1]}
    turned |= {1: array, 7: array.T[::-1, ::-1], 8: array.T[::-1]}
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(tmp_path / f"a.{suffix}", exif=exif)
    expected = turned[orientation]
    np.testing.assert_array_equal(decode(tmp_path / f"a.{suffix}", expected.shape, 1, "box")[0], expected)


def test_a_large_image_is_converted_in_bands_with_the_same_result(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (50, 40, 4), dtype=np.uint8)
    for mode in ("RGBA", "LA", "P", "CMYK", "I;16"):
        image = Image.fromarray(noise).convert("L" if mode == "I;16" else "RGB" if mode == "P" else "RGBA")
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
        image.save(tmp_path / "a.tif" if mode == "CMYK" else tmp_path / "a.png")
        path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
        for channels in (1, 3, 4):
            whole = decode(path, (20, 20), channels, "lanczos")
            monkeypatch.setattr(decoding, "BAND", 100)
            np.testing.assert_array_equal(decode(path, (20, 20), channels, "lanczos"), whole)
            monkeypatch.undo()


def test_threads_decode_no_more_pixels_at_once_than_the_budget_allows():
    budget = Budget(100)
    running: list[int] = []
    peaks: list[int] = []

    def work(pixels: int) -> None:
        with budget.reserve(pixels):
            running.append(min(pixels, 100))
            peaks.append(sum(running))
            time.sleep(0.002)
            running.remove(min(pixels, 100))

    threads = [threading.Thread(target=work, args=(pixels,)) for pixels in (40, 50, 60, 1000, 10, 30, 300, 20) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(peaks) <= 100
    assert len(peaks) == 24


def test_a_read_allocates_no_more_than_the_file_has(tmp_path):
    with SizedReader(str(written(tmp_path / "a.jp2", b"12345"))) as file:
        assert file.read(2) == b"12"
        tracemalloc.start()
        assert file.read(2**33) == b"345"
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()
        file.seek(0)
        assert (file.read(), file.read(None), file.read(0)) == (b"12345", b"", b"")


def test_threads_unpack_no_more_bytes_at_once_than_the_budget_allows(tmp_path, monkeypatch):
    content = png(0)
    write_zip(tmp_path / "a.zip", [(f"{index}.png", content) for index in range(6)])
    members, _ = list_zip(tmp_path / "a.zip")
    monkeypatch.setattr(decoding, "member_budget", Budget(2 * len(content)))
    held, peaks, fitted = [], [], decoding._fitted

    def counted(*arguments):
        held.append(1)
        peaks.append(len(held))
        time.sleep(0.02)
        held.pop()
        return fitted(*arguments)

    monkeypatch.setattr(decoding, "_fitted", counted)
    with ThreadPoolExecutor(6) as pool:
        images = list(pool.map(lambda member: decode(member, (4, 4), 3, "box"), members))
    assert len(images) == 6
    assert max(peaks) == 2


def test_a_file_is_read_as_an_image_of_the_listed_formats_only(tmp_path):
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n0 0 10 10 rectfill\nshowpage\n"
    with pytest.raises(UnreadableError, match=r"^is not an image$"):  # Pillow would start Ghostscript
        decode(written(tmp_path / "a.png", postscript), (8, 8), 3, "box")


MEASURE = """
import resource, sys
from pathlib import Path
from ganblocks.data.sources import open_data
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images = open_data(Path(sys.argv[1]), resolution=16, image_channels=4)
print(len(images), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_six_large_images_are_decoded_within_two_gigabytes(tmp_path):
    for index, mode in enumerate(("RGB", "RGBA", "LA", "L")):
        Image.new(mode, (12_000, 12_000)).save(tmp_path / f"{index}.png", compress_level=1)
    for index in (0, 1):
        shutil.copy(tmp_path / f"{index}.png", tmp_path / f"{index + 4}.png")
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, str(tmp_path)]
    count, kibibytes = map(int, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())
    assert count == 6
    assert kibibytes < 2e9 / 1024  # at once they need more than 4 GB


@pytest.mark.parametrize("count", [300, pytest.param(6000, marks=pytest.mark.slow)])
def test_a_damaged_image_is_decoded_or_refused_as_unreadable(tmp_path, count):
    rng = random.Random(0)
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    originals = []
    for suffix in "png jpg webp bmp gif tif tga jp2 ppm pcx dds sgi ico xbm avif qoi".split():
        path = tmp_path / f"a.{suffix}"
        try:
            Image.fromarray(noise).convert("1" if suffix == "xbm" else "RGB").save(path)
        except (OSError, KeyError, ValueError):  # not all builds of Pillow write all formats
            continue
        originals.append(path.read_bytes())
    originals.append(grey_tiff(range(64), 12))
    outcomes = set()
    for _ in range(count):
        data = bytearray(rng.choice(originals))
        for _ in range(rng.randint(1, 6)):
            position = rng.randrange(min(len(data), rng.choice([32, 200, 10_000])))
            cut = rng.choice([0, 0, 1, rng.randint(1, 40)])
            data[position : position + cut] = rng.choice([b"", b"\xff" * 4, bytes(4), rng.randbytes(3)])
            data = data or bytearray(b"\0")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pixels = decode(written(tmp_path / "damaged", bytes(data)), (8, 8), rng.choice([1, 3, 4]), "lanczos")
            outcomes.add(pixels.shape[1:])
        except UnreadableError as error:
            outcomes.add("refused" if str(error) else "refused without a reason")
    assert outcomes == {(8, 8), "refused"}


def test_an_image_beyond_the_pixel_limit_of_pillow_is_refused_with_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with pytest.raises(UnreadableError, match=r"is too large: Image size \(80 pixels\) exceeds limit of 60 pixels"):
        decode(written(tmp_path / "a.png", png(3)), (8, 8), 3, "box")


def test_a_file_without_content_is_not_an_image(tmp_path):
    with pytest.raises(UnreadableError, match="is not an image"):
        decode(written(tmp_path / "a.png", b""), (8, 8), 3, "box")
    with pytest.raises(UnreadableError, match="No such file"):
        decode(tmp_path / "missing.png", (8, 8), 3, "box")


@pytest.mark.parametrize("side", [(64, 48), (37, 53), (1, 9)], ids=str)
@pytest.mark.parametrize(
    "options",
    [{"subsampling": "4:2:0"}, {"subsampling": "4:2:2"}, {"subsampling": "4:4:4"}, {"progressive": True},
     {"keep_rgb": True}, {"quality": 30}, {"restart_marker_rows": 1}],
    ids=str,
)  # fmt: skip
def test_simplejpeg_decodes_the_values_that_pillow_decodes(tmp_path, monkeypatch, side, options):
    pytest.importorskip("simplejpeg")
    noise = np.random.default_rng(0).integers(0, 256, (*side, 3), np.uint8)
    path = tmp_path / "image.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by a quarter turn
    Image.fromarray(noise).save(path, exif=exif, **options)
    with Image.open(path) as image, path.open("rb") as file:
        assert decoding.decode_jpeg(image, file) is not None
    fast = decode(path, side[::-1], 3, "lanczos")
    monkeypatch.setattr(decoding, "simplejpeg", None)
    assert (fast == decode(path, side[::-1], 3, "lanczos")).all()


def test_pillow_decodes_what_simplejpeg_does_not(tmp_path):
    path = tmp_path / "image.jpg"
    Image.new("RGB", (64, 64), (9, 8, 7)).save(path)
    path.write_bytes(path.read_bytes()[:-60])
    with Image.open(path) as image, path.open("rb") as file:
        assert decoding.decode_jpeg(image, file) is None
    with pytest.raises(UnreadableError, match="image file is truncated"):
        decode(path, (8, 8), 3, "lanczos")
    for mode in ("L", "CMYK"):
        Image.new(mode, (8, 8)).save(path)
        with Image.open(path) as image, path.open("rb") as file:
            assert decoding.decode_jpeg(image, file) is None
