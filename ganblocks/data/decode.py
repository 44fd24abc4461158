"""Image files of any sort as bytes of one shape: modes converted, resized to cover, cropped in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

ResizeFilter = Literal["lanczos", "bicubic", "bilinear", "box"]
FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}


class Opens(Protocol):
    """Something that can be read as a file, such as a member of an archive."""

    def open(self) -> IO[bytes]: ...


MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def image_files(folder: Path) -> list[Path]:
    """All files below a folder that look like images by their suffix, sorted, hidden ones left out."""
    known = Image.registered_extensions()
    readable = {suffix for suffix, form in known.items() if form in Image.OPEN}
    found = (path for path in folder.rglob("*") if path.suffix.lower() in readable and path.is_file())
    visible = (path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(visible, key=lambda path: path.relative_to(folder).as_posix())


def decode(
    path: Path | Opens, resolution: tuple[int, int], image_channels: int, resize_filter: ResizeFilter
) -> npt.NDArray[np.uint8]:
    """The image in a file as bytes [image_channels, height, width].

    It is turned as its EXIF data says, put on white where it is transparent, resized to cover `resolution` and cropped
    in the middle.

    Raises:
        OSError, ValueError, SyntaxError: The file is no image, or cut short.
    """
    with Image.open(path if isinstance(path, Path) else path.open()) as opened:
        image = _in_mode(ImageOps.exif_transpose(opened), MODES[image_channels])
    height, width = resolution
    fitted = ImageOps.fit(image, (width, height), method=FILTERS[resize_filter])
    array = np.asarray(fitted, dtype=np.uint8).reshape(height, width, image_channels)
    return np.ascontiguousarray(array.transpose(2, 0, 1))


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel: converting straight to 8 would clip
        image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; convert it to 8 or 16 bits")
    if mode != "RGBA" and (image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)
