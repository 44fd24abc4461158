"""The image formats that are read. Pillow decodes each of these by itself, without starting another program."""

from __future__ import annotations

from functools import cache
from pathlib import PurePosixPath

from PIL import Image

# Formats without a signature come last. EPS is missing because Pillow runs Ghostscript for it.
FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "BMP",
    "DIB",
    "GIF",
    "TIFF",
    "AVIF",
    "JPEG2000",
    "PPM",
    "QOI",
    "DDS",
    "ICNS",
    "ICO",
    "PSD",
    "SGI",
    "SUN",
    "XBM",
    "XPM",
    "PCX",
    "TGA",
)
NAMES = "PNG, JPEG, WebP, BMP, TIFF, ..."
# of pictures in other formats, whether Pillow knows them or not
UNREAD_SUFFIXES = frozenset(
    ".arw .blp .cr2 .cr3 .cur .dcx .dng .emf .eps .exr .fit .fits .flc .fli .ftc .ftu .hdr .heic .heif .im .jxl .mpo "
    ".msp .nef .orf .pcd .pfm .pxr .raf .rw2 .svg .wmf".split()
)


@cache
def readable_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that the installed Pillow reads, for `Image.open`."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of the formats that are read, in lower case with their dot."""
    formats = readable_formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def suffix_of(name: str) -> str:
    """The suffix of a file's name in lower case with its dot, or an empty string."""
    return PurePosixPath(name).suffix.lower()


def stem_of(path: str) -> str:
    """A path without its suffix."""
    return path.removesuffix(PurePosixPath(path).suffix)


def is_image(name: str) -> bool:
    """Whether a name has the suffix of an image format that is read."""
    return suffix_of(name) in image_suffixes()
