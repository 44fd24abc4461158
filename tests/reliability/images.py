"""Hostile images: mutated files of each format, claims of giant sizes, and pictures with another format's suffix."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.data.files import grey_tiff, raw_png
from tests.reliability.mutations import EXTREMES, mutated

SAVED: dict[str, tuple[str, ...]] = {  # modes by format
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("L", "P", "RGB"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "RGB", "CMYK", "I;16", "F", "LAB"),
    "WEBP": ("RGB", "RGBA"),
    "PPM": ("1", "L", "RGB"),
    "TGA": ("L", "RGBA"),
    "PCX": ("L", "RGB"),
    "SGI": ("L", "RGB"),
    "ICO": ("RGBA",),
    "ICNS": ("RGBA",),
    "DDS": ("RGBA",),
    "JPEG2000": ("L", "RGB"),
    "AVIF": ("RGB",),
    "XBM": ("1",),
    "QOI": ("RGB", "RGBA"),
    "EPS": ("L", "RGB"),
}
EXTENSIONS = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}
OPTIONS: dict[str, tuple[dict[str, object], ...]] = {
    "PNG": ({}, {"transparency": 0}),
    "JPEG": (
        {},
        {"progressive": True},
        {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"},
    ),
    "TIFF": ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}, {"compression": "packbits"}),
    "GIF": ({}, {"interlace": 1}),
    "WEBP": ({}, {"lossless": True}),
}


def real_images() -> list[tuple[str, bytes]]:
    """Small pictures of all formats that the installed Pillow writes, with their suffix."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 4), dtype=np.uint8)
    pictures: list[tuple[str, bytes]] = []
    Image.init()
    for format_name in (name for name in SAVED if name in Image.SAVE):
        for mode in SAVED[format_name]:
            picture = Image.fromarray(noise).resize((32, 32) if format_name == "ICNS" else (48, 64))
            picture = Image.new("LAB", picture.size) if mode == "LAB" else _in_mode(picture, mode)
            for options in OPTIONS.get(format_name, ({},)):
                file = io.BytesIO()
                try:
                    picture.save(file, format_name, **options)
                except (OSError, ValueError, KeyError, TypeError):
                    continue  # not every option exists for every mode
                pictures.append((EXTENSIONS.get(format_name, format_name.lower()), file.getvalue()))
    pictures += [("png", raw_png(b"\x1b\xe4", 8, 2, 0, b"\0\x01")), ("tif", grey_tiff(range(0, 4096, 64), 12))]
    return pictures + _pictures_that_pillow_only_reads()


def _pictures_that_pillow_only_reads() -> list[tuple[str, bytes]]:
    pixels = bytes(range(192))  # 8 x 8 in RGB
    newline = ",\n"
    xpm = ['"8 8 2 1"', '"a c #ff0000"', '"b c #00ff00"', *['"abababab"'] * 8]
    sun = struct.pack(">8I", 0x59A66A95, 8, 8, 24, len(pixels), 1, 0, 0) + pixels
    psd = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 8, 8, 8, 3) + bytes(12) + struct.pack(">H", 0) + pixels
    return [("xpm", f"/* XPM */\nstatic char *x[] = {{\n{newline.join(xpm)}}};\n".encode()), ("ras", sun), ("psd", psd)]


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    return picture.convert("RGB").convert(mode) if mode in ("F", "CMYK", "P") else picture.convert(mode)


def giant_images() -> Iterator[tuple[str, str, bytes]]:
    """Small files of large pictures or claims of them, by name."""
    for width, height in ((13_000, 13_000), (2**31 - 1, 1), (1, 2**31 - 1), (65_535, 65_535), (0, 5)):
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        yield (
            f"png of {width} x {height}",
            "png",
            _png({b"IHDR": header, b"IDAT": zlib.compress(bytes(10**6)), b"IEND": b""}),
        )
        yield f"ppm of {width} x {height}", "ppm", b"P6 %d %d 255\n" % (width, height) + bytes(1000)
        yield (
            f"bmp of {width} x {height}",
            "bmp",
            b"BM"
            + struct.pack("<IHHIIiiHHIIiiII", 1054, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
            + bytes(1000),
        )
        if width < 2**16 and height < 2**16:
            yield (
                f"gif of {width} x {height}",
                "gif",
                b"GIF89a"
                + struct.pack("<HHBBB", width, height, 0x80, 0, 0)
                + bytes(6)
                + b","
                + struct.pack("<HHHHB", 0, 0, width, height, 0)
                + b"\x02\x02\x4c\x01\0;",
            )
            yield (
                f"tga of {width} x {height}",
                "tga",
                struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, width, height, 24, 0) + bytes(1000),
            )
    for side in (9_000, 13_000):
        file = io.BytesIO()
        Image.new("L", (side, side)).save(file, "PNG")
        yield f"grey png of {side} pixels", "png", file.getvalue()
    text = zlib.compress(b"x" * 2**28)
    yield (
        "a text of 256 MiB",
        "png",
        _png(
            {
                b"IHDR": struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0),
                b"zTXt": b"a\0\0" + text,
                b"IDAT": zlib.compress(b"\0\0"),
                b"IEND": b"",
            }
        ),
    )
    yield (
        "a profile of 256 MiB",
        "png",
        _png(
            {
                b"IHDR": struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0),
                b"iCCP": b"a\0\0" + text,
                b"IDAT": zlib.compress(b"\0\0"),
                b"IEND": b"",
            }
        ),
    )
    yield "empty", "png", b""
    yield "text", "jpg", b"not an image"
    yield (
        "a program for Ghostscript",
        "png",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(canary) (w) file\n%%EOF\n",
    )


def _png(chunks: dict[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks.items())


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _mutated_chunks(content: bytes, random: random.Random) -> bytes:
    """A PNG with damaged chunks whose checksums are right."""
    chunks, position = [], 8
    while position + 12 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        chunks.append((content[position + 4 : position + 8], content[position + 8 : position + 8 + length]))
        position += 12 + length
    index = random.randrange(len(chunks))
    name, data = chunks[index]
    if name == b"IHDR" and random.random() < 0.5:
        fields = list(struct.unpack(">IIBBBBB", data[:13]))
        fields[random.randrange(7)] = random.choice(EXTREMES)
        data = struct.pack(">IIBBBBB", *fields[:2], *(field % 256 for field in fields[2:]))
    elif name == b"IDAT" and random.random() < 0.5:
        data = zlib.compress(mutated(zlib.decompress(data), random))
    else:
        data = mutated(data, random)
    chunks[index] = name, data
    if random.random() < 0.2:
        chunks.insert(random.randrange(len(chunks)), random.choice(chunks))
    return content[:8] + b"".join(_chunk(*chunk) for chunk in chunks)


def hostile_images(count: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """So many files, as name, suffix and content.

    Args:
        count: Number of files.
        seed: Random seed.
    """
    giants = list(giant_images())[:count]
    yield from giants
    chance, pictures = random.Random(seed), real_images()
    contents = [content for _, content in pictures]
    for number in range(count - len(giants)):
        suffix, content = pictures[number % len(pictures)]
        if suffix == "png" and chance.random() < 0.5:
            damaged = _mutated_chunks(content, chance)
        else:
            damaged = mutated(content, chance, contents)
        if chance.random() < 0.1:
            suffix = chance.choice(pictures)[0]
        yield f"{number}.{suffix}", suffix, damaged
