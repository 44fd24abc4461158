"""Image files of any mode and size as bytes of one shape: converted, resized to cover it, cropped at the centre."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Condition
from typing import IO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

from assemblies.gan import ResizeFilter
from ganblocks.data.archives import Member
from ganblocks.data.formats import readable_formats
from ganblocks.data.locations import SizedReader
from ganblocks.data.skipped import UnreadableError, reason_for
from ganblocks.malloc import trim_malloc
from registry import Location

try:
    import simplejpeg
except ImportError:  # the extra `jpeg`
    simplejpeg = None

FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
GREY_SCALES = {"L;2": 85, "L;4": 17}  # of PNGs with fewer than 8 bits
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
MAX_PIXELS_AT_ONCE = 2**27  # Pillow needs up to 8 bytes a pixel while it converts
MAX_BYTES_AT_ONCE = 2**29  # of members of archives, which are unpacked in memory
BAND = 2**22  # pixels of a large image that are converted at once


class Budget:
    """Bounds what the threads of a process hold in memory at once; more than the limit is held alone.

    Args:
        limit: Pixels of images, or bytes of files.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.changed = Condition()
        # held for images of more than half the limit; workers of a data loader share one lock
        self.large: AbstractContextManager[object] = nullcontext()

    @contextmanager
    def reserve(self, amount: int) -> Iterator[None]:
        """Wait until so many pixels or bytes may be held."""
        share = min(amount, self.limit)
        with self.large if amount > self.limit // 2 else nullcontext():
            with self.changed:
                self.changed.wait_for(lambda: self.used + share <= self.limit)
                self.used += share
            try:
                yield
            finally:
                if amount > self.limit // 8:
                    trim_malloc()
                with self.changed:
                    self.used -= share
                    self.changed.notify_all()


pixel_budget = Budget(MAX_PIXELS_AT_ONCE)
member_budget = Budget(MAX_BYTES_AT_ONCE)


def decode(
    location: Path | Location,
    resolution: tuple[int, int],
    image_channels: int,
    resize_filter: ResizeFilter,
    crop: Literal["center", "pad"] = "center",
) -> npt.NDArray[np.uint8]:
    """The image in a file as bytes [image_channels, height, width], in memory that may be written to.

    The image is rotated as its EXIF data says, composited on white where it is transparent (unless there are 4
    channels), resized to cover `resolution` and cropped at the centre; with `crop="pad"` it is resized to fit and
    padded with white. Of several frames or pages, the first is read.

    Raises:
        UnreadableError: The file is no image of a format in `formats.FORMATS`, is damaged, has more pixels than Pillow
            allows, or has values of unknown range.
    """
    try:
        # the bytes before the pixels, so that no thread waits for bytes that a thread holds which waits for pixels
        with member_budget.reserve(location.size if isinstance(location, Member) else 0):
            with SizedReader(str(location)) if isinstance(location, Path) else location.open() as file:
                with Image.open(file, formats=readable_formats()) as image:
                    with pixel_budget.reserve(image.width * image.height):
                        decoded = decode_jpeg(image, file) or image
                        return _fitted(decoded, resolution, image_channels, FILTERS[resize_filter], crop)
    except Exception as error:  # decoders raise errors of any type for damaged files
        raise UnreadableError(reason_for(error)) from error


def decode_jpeg(image: ImageFile.ImageFile, file: IO[bytes]) -> Image.Image | None:
    """A JPEG in colour, decoded by simplejpeg if that is installed; it takes two thirds of Pillow's time.

    Both are libjpeg-turbo with the same options: the values are equal.

    Args:
        image: The image, of which Pillow has read the header.
        file: Its file.

    Returns:
        The image with its metadata; None for other images, and for damaged ones, which Pillow describes.
    """
    if simplejpeg is None or image.format != "JPEG" or image.mode != "RGB":
        return None
    file.seek(0)
    try:
        pixels = simplejpeg.decode_jpeg(file.read(), "RGB", fastdct=False, fastupsample=False)
    except ValueError:
        return None
    decoded = Image.fromarray(pixels)
    decoded.info = image.info  # with its orientation
    return decoded if decoded.size == image.size else None


def _fitted(
    image: Image.Image,
    resolution: tuple[int, int],
    image_channels: int,
    resampling: Image.Resampling,
    crop: Literal["center", "pad"],
) -> npt.NDArray[np.uint8]:
    height, width = resolution
    _scale_transparency(image)
    ImageOps.exif_transpose(image, in_place=True)
    converted = _converted(image, MODES[image_channels], _grey_format(image))
    if converted is not image:
        image.close()  # resizing a large image with an alpha channel copies it once more
    if crop == "center":
        fitted = ImageOps.fit(converted, (width, height), method=resampling)
    else:
        fitted = ImageOps.pad(converted, (width, height), method=resampling, color="white")
    image.close()  # here, while its pixels are reserved
    array = np.array(fitted, dtype=np.uint8).reshape(height, width, image_channels)
    return np.ascontiguousarray(array.transpose(2, 0, 1))


class GreyFormat(NamedTuple):
    """How grey values of more than 8 bits are stored: their number of bits, and whether 0 is white."""

    bits: int = 16
    inverted: bool = False


def _converted(image: Image.Image, mode: str, grey: GreyFormat) -> Image.Image:
    """An image in another mode; a large one in bands, so that its copies are never in memory together."""
    if image.width * image.height <= 4 * BAND or (image.mode == mode and not _has_alpha(image)):
        return _in_mode(image, mode, grey)
    result = Image.new(mode, image.size)
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        result.paste(_in_mode(image.crop(box), mode, grey), box)
    return result


def _in_mode(image: Image.Image, mode: str, grey: GreyFormat) -> Image.Image:
    if image.mode.startswith("I"):
        image = _to_8_bits(image, grey)
    if image.mode == "F":
        raise ValueError("has floating-point values of unknown range; convert it to 8 or 16 bits")
    if image.mode == "LAB":  # Pillow converts it to RGB only
        image = image.convert("RGB")
    if mode != "RGBA" and _has_alpha(image):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in WITH_ALPHA or "transparency" in image.info


def _to_8_bits(image: Image.Image, grey: GreyFormat) -> Image.Image:
    """The upper 8 bits of grey values, where Pillow's own conversion would clip them."""
    values = np.asarray(image)
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest >= 2**16:
        raise ValueError(f"has values from {lowest} to {highest}, outside of 16 bits; convert it to 8 or 16 bits")
    shown = (2**grey.bits - 1) - values if grey.inverted else values
    result = Image.fromarray((shown >> (grey.bits - 8)).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is not None:
        result.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return result


def _grey_format(image: Image.Image) -> GreyFormat:
    tags = getattr(image, "tag_v2", None)  # of a TIFF
    if tags is None or not image.mode.startswith("I"):
        return GreyFormat()
    bits = tags.get(BITSPERSAMPLE, (16,))[0]
    return GreyFormat(bits if 8 < bits < 16 else 16, tags.get(PHOTOMETRIC_INTERPRETATION) == 0)


def _scale_transparency(image: Image.Image) -> None:
    """Bring a PNG's transparent colour to the depth to which Pillow decodes the pixels."""
    colour = image.info.get("transparency")
    tile = getattr(image, "tile", None)
    depth = tile[0][3] if image.format == "PNG" and tile else None
    if colour is None:
        return
    if depth in GREY_SCALES:
        image.info["transparency"] = colour * GREY_SCALES[depth]
    elif depth == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in colour)
