"""Grids of images as PNG files, with small gaps and labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, uint8

from registry.documents import write_whole
from workbench.pixels import to_bytes

BACKGROUND = "white"


def save_grid(
    images: Float[Tensor, "n c h w"] | UInt8[Tensor, "n c h w"],
    path: str | Path,
    *,
    columns: int | None = None,
    gap: int = 2,
    labels: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
    value_range: str = "symmetric",
    scale: int = 1,
) -> None:
    """Write images as one picture, whole or not at all; its format follows the suffix of `path`.

    Args:
        images: Grey, RGB or RGBA; floating-point numbers in `value_range`, or bytes.
        path: Where to.
        columns: Images in a row; by default the grid is as square as can be.
        gap: Pixels between the images.
        labels: A line of text under each image.
        row_labels: Text on the left of each row.
        value_range: What floating-point numbers mean: "symmetric" [-1,1], "unit" [0,1] or "imagenet".
        scale: How many pixels show one pixel of an image.
    """
    grid = make_grid(
        images, columns=columns, gap=gap, labels=labels, row_labels=row_labels, value_range=value_range, scale=scale
    )
    content = BytesIO()
    path = Path(path)
    grid.save(content, format=Image.registered_extensions().get(path.suffix.lower(), "PNG"))
    write_whole(path, content.getvalue())


def make_grid(
    images: Tensor,
    *,
    columns: int | None = None,
    gap: int = 2,
    labels: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
    value_range: str = "symmetric",
    scale: int = 1,
) -> Image.Image:
    """The picture that `save_grid` writes."""
    cells = [to_picture(image, value_range, scale) for image in images]
    if not cells:
        raise ValueError("a grid needs at least one image")
    columns = columns or math.ceil(math.sqrt(len(cells)))
    rows = math.ceil(len(cells) / columns)
    width, height = cells[0].size
    font = ImageFont.load_default(size=12)
    text_height = 15 if labels else 0
    margin = max((math.ceil(font.getlength(text)) + 2 * gap for text in row_labels), default=0) if row_labels else 0
    size = (margin + columns * width + (columns - 1) * gap, rows * (height + text_height) + (rows - 1) * gap)
    grid = Image.new("RGBA" if cells[0].mode == "RGBA" else "RGB", size, BACKGROUND)
    pen = ImageDraw.Draw(grid)
    for index, cell in enumerate(cells):
        x, y = margin + index % columns * (width + gap), index // columns * (height + text_height + gap)
        grid.paste(cell, (x, y))
        if labels and index < len(labels):
            pen.text((x + width / 2, y + height + 1), labels[index], fill="black", font=font, anchor="ma")
    for row, text in enumerate(row_labels or ()):
        pen.text((gap, row * (height + text_height + gap) + height / 2), text, fill="black", font=font, anchor="lm")
    return grid


def to_picture(image: Tensor, value_range: str = "symmetric", scale: int = 1) -> Image.Image:
    """One image [C,H,W] as a picture."""
    pixels: Any = image if image.dtype == uint8 else to_bytes(image[None], value_range)[0]
    array = pixels.cpu().permute(1, 2, 0).numpy()
    if array.shape[-1] not in (1, 3, 4):
        raise ValueError(f"an image of {array.shape[-1]} channels cannot be shown; 1, 3 or 4 can")
    picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
