"""Image grids with labels."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, uint8

from ganblocks.errors import UsageError
from ganblocks.pixels import to_bytes
from ganblocks.sampling.pictures import Metadata, save_picture

BACKGROUND = "white"
TEXT = 12  # px
MAX_PIXELS = 2**30  # of enlarged images together; 3 GB
LEAST_SIDE = 512  # px of the longer side of a picture whose scale is chosen
ROW_LABEL = 28  # characters of a line
Images = Float[Tensor, "n c h w"] | UInt8[Tensor, "n c h w"] | Sequence[Tensor | None]


def save_grid(
    images: Images,
    path: str | Path,
    *,
    columns: int | None = None,
    gap: int = 2,
    labels: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    value_range: str = "symmetric",
    scale: int | None = None,
    metadata: Metadata | None = None,
) -> None:
    """Write images as one picture; the suffix of `path` selects its format.

    Args:
        images: Grey, RGB or RGBA; floating-point numbers in `value_range`, or bytes. None leaves a cell empty.
        path: The file to write.
        columns: Images per row; None for a grid that is about square.
        gap: Pixels between images.
        labels: A line of text below each image.
        row_labels: Text on the left of each row.
        column_labels: Text above each column.
        value_range: Range of floating-point images: "symmetric" [-1,1], "unit" [0,1] or "imagenet".
        scale: Factor by which images are enlarged, by nearest neighbours; None for the smallest that makes the picture
            512 px wide or high.
        metadata: Texts for the file's metadata, such as those of `made_by`.
    """
    grid = make_grid(
        images,
        columns=columns,
        gap=gap,
        labels=labels,
        row_labels=row_labels,
        column_labels=column_labels,
        value_range=value_range,
        scale=scale,
    )
    save_picture(grid, path, metadata)


def make_grid(
    images: Images,
    *,
    columns: int | None = None,
    gap: int = 2,
    labels: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    value_range: str = "symmetric",
    scale: int | None = None,
) -> Image.Image:
    """The picture that `save_grid` writes."""
    first = next((image for image in images if image is not None), None)
    if first is None:
        raise ValueError("a grid needs at least one image")
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    row_labels = [_wrapped(text) for text in row_labels or ()]
    if scale is None:
        scale = scale_for(max(columns * first.shape[-1], rows * first.shape[-2]))
    check_size(len(images), first.shape[-2], first.shape[-1], scale)
    cells = [None if image is None else to_picture(image, value_range, scale) for image in images]
    shown = [cell for cell in cells if cell is not None]
    width, height = shown[0].size
    font = ImageFont.load_default(size=TEXT)
    text_height = TEXT + 3 if labels else 0
    top = max(text_size(text)[1] for text in column_labels) + 2 * gap if column_labels else 0
    margin = max(text_size(text)[0] for text in row_labels) + 3 * gap if row_labels else 0
    if column_labels:  # labels may be larger than their columns and rows
        width = max(width, *(text_size(text)[0] + gap for text in column_labels))
    height = max([height, *(text_size(text)[1] for text in row_labels)])
    size = (margin + columns * width + (columns - 1) * gap, top + rows * (height + text_height) + (rows - 1) * gap)
    grid = Image.new("RGBA" if shown[0].mode == "RGBA" else "RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(grid)
    for column, text in enumerate(column_labels or ()):
        pen.text((margin + column * (width + gap) + width / 2, gap), text, fill="black", font=font, anchor="ma")
    for index, cell in enumerate(cells):
        x, y = margin + index % columns * (width + gap), top + index // columns * (height + text_height + gap)
        if cell is not None:
            grid.paste(cell, (x + (width - cell.width) // 2, y + (height - cell.height) // 2))
        if labels and index < len(labels):
            pen.text((x + width / 2, y + height + 1), labels[index], fill="black", font=font, anchor="ma")
    for row, text in enumerate(row_labels):
        centre = top + row * (height + text_height + gap) + height / 2
        pen.multiline_text((gap, centre), text, fill="black", font=font, anchor="lm")
    return grid


def text_size(text: str) -> tuple[int, int]:
    """Width and height of lines of text, in pixels."""
    font = ImageFont.load_default(size=TEXT)
    lines = text.split("\n")
    return math.ceil(max(font.getlength(line) for line in lines)), (TEXT + 4) * len(lines)


def scale_for(side: int) -> int:
    """The smallest factor by which a picture with this longer side has at least `LEAST_SIDE` px there."""
    return max(1, math.ceil(LEAST_SIDE / side))


def check_size(count: int, height: int, width: int, scale: int) -> None:
    """Refuse enlarged images that would not fit into memory.

    Raises:
        UsageError: They have more than `MAX_PIXELS` pixels.
    """
    pixels = count * height * width
    if scale > 1 and pixels * scale**2 > MAX_PIXELS:
        raise UsageError(
            f"scale {scale}: {count} images of {width} x {height} px would have {pixels * scale**2:,} px, more than "
            f"{MAX_PIXELS:,}; take a scale of at most {max(1, math.isqrt(MAX_PIXELS // pixels))}"
        )


def to_picture(image: Tensor, value_range: str = "symmetric", scale: int = 1) -> Image.Image:
    """One image [C,H,W] as a picture."""
    pixels: Any = image if image.dtype == uint8 else to_bytes(image[None], value_range)[0]
    array = pixels.cpu().permute(1, 2, 0).numpy()
    if array.shape[-1] not in (1, 3, 4):
        raise ValueError(f"an image has {array.shape[-1]} channels; a picture has 1, 3 or 4")
    check_size(1, array.shape[0], array.shape[1], scale)
    picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def _wrapped(text: str) -> str:
    """Text with long lines broken."""
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, ROW_LABEL) or [""])
