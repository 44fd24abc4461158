"""Makes small image files, archives and data sets for the tests."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from ganblocks.data.dataset import Images
from ganblocks.data.sources import open_data

SHADES = (0, 60, 120, 180, 240)


def png(shade: int) -> bytes:
    """A grey picture of 10 x 8 pixels."""
    file = io.BytesIO()
    Image.new("RGB", (10, 8), (shade,) * 3).save(file, "PNG")
    return file.getvalue()


def raw_png(row: bytes, width: int, bits: int, colour_type: int, transparent: bytes) -> bytes:
    """A PNG with one row of pixels in any bit depth and a transparent colour, which Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, 1, bits, colour_type, 0, 0, 0)
    chunks = {b"IHDR": header, b"tRNS": transparent, b"IDAT": zlib.compress(b"\0" + row), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in chunks.items())


def grey_tiff(values: Iterable[int], bits: int, *, white_is_zero: bool = False) -> bytes:
    """A TIFF with one row of grey pixels of any depth, which Pillow cannot write."""
    values = list(values)
    pixels = "".join(f"{value:0{bits}b}" for value in values) if bits % 8 else ""
    data = bytes(int(pixels[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(pixels), 8))
    data = data or b"".join(value.to_bytes(bits // 8, "little") for value in values)
    data += b"\0" * (len(data) % 2)
    tags = {256: len(values), 257: 1, 258: bits, 259: 1, 262: 0 if white_is_zero else 1, 273: 8, 277: 1, 278: 1}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in (tags | {279: len(data)}).items())
    header = b"II*\0" + struct.pack("<I", 8 + len(data))
    return header + data + struct.pack("<H", len(tags) + 1) + directory + bytes(4)


def write_files(folder: Path, files: dict[str, bytes | str]) -> Path:
    """A folder with these files."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def write_zip(path: Path, files: Iterable[tuple[str, bytes | str]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: Iterable[tuple[str, bytes | str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def labelled_zip(path: Path, labels: object) -> Path:
    """A zip with an image of each shade and a dataset.json."""
    images = [(f"{index:05d}.png", png(shade)) for index, shade in enumerate(SHADES)]
    return write_zip(path, [*images, ("dataset.json", json.dumps({"labels": labels}))])


def shards(folder: Path, suffix: str = "txt", cut: int = 0) -> Path:
    """Two shards with two and three samples, of which the second may be cut short."""
    texts = {
        "txt": lambda index: f"shade {index}",
        "cls": lambda index: str(index % 2),
        "json": lambda index: json.dumps({"text": f"shade {index}"}),
    }
    for number, indices in enumerate(((0, 1), (2, 3, 4))):
        files: list[tuple[str, bytes | str]] = []
        for index in indices:
            files += [(f"{index:09d}.png", png(SHADES[index])), (f"{index:09d}.{suffix}", texts[suffix](index))]
        shard = write_tar(folder / f"{number:05d}.tar", files)
        if number and cut:
            shard.write_bytes(shard.read_bytes()[:cut])
    return folder


def open_captioned(source: Path, **options: object) -> Images:
    return open_data(source, resolution=8, **({"captions": True, "cond_dim": 32} | options))


def shades(images: Images) -> list[int]:
    """The shade of each picture of a data set."""
    return [int(images.read(index)[0, 0, 0]) for index in range(len(images))]


def reasons(images: Images) -> dict[str, str]:
    """Why files are skipped, by their names."""
    return {path.rpartition("/")[2]: reason for path, reason in images.skipped}
