"""Pictures of attention weights: for chosen pixels over the image, averaged over queries, and queries against keys.

The last row shows the mean query of a head against the key of each pixel, without softmax and window, as the published
code of StyleNAT does, Walton et al. 2022, https://arxiv.org/abs/2211.05770.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from blocks.common.noise import noise_mode
from ganblocks.errors import UsageError
from ganblocks.options import accepts
from ganblocks.sampling.attention_maps import BlockAttention, Partition, attention_maps
from ganblocks.sampling.conditions import resolve_conditions
from ganblocks.sampling.generate import Truncation, styles, synthesize
from ganblocks.sampling.grids import text_size, to_picture
from ganblocks.sampling.load import inference_device, load
from ganblocks.sampling.options import SamplingOptions
from ganblocks.sampling.pictures import STILLS, made_by, save_picture

QUERIES = ((0.25, 0.25), (0.5, 0.5), (0.7, 0.75))  # default queries: x, y as fractions of the image
MARK = (0, 230, 255)
GAP, TITLE = 3, 13  # px


@accepts(SamplingOptions)
def save_attention_maps(
    model: str | Path,
    seed: int,
    out: str | Path,
    *,
    at: Sequence[tuple[int, int]] = (),
    size: int = 128,
    options: SamplingOptions,
) -> dict[str, Any]:
    """Write a folder of pictures, one per block of attention, and an overview.

    Args:
        model: A run folder or a model file.
        seed: Random seed of the image.
        out: The folder.
        at: Queries as x, y in pixels of the image; empty for three default ones.
        size: The longer side of each small picture, in pixels.

    Raises:
        CheckpointError: There is no model.
        DataError: The generator does not have the class or caption.
        UsageError: A query lies outside the image, or the model has no attention.
    """
    out = Path(out)
    if out.is_file() or out.suffix.lower() in STILLS:
        raise UsageError(f"--out {out}: attention maps are a folder of pictures; give a name without suffix")
    generator = load(model, inference_device(options.device), allow_external=options.allow_external)
    _, height, width = generator.picture_shape
    if outside := [(x, y) for x, y in at if x >= width or y >= height]:
        raise UsageError(f"--at {outside[0][0]},{outside[0][1]}: the image has {width} x {height} pixels")
    queries = [((x + 0.5) / width, (y + 0.5) / height) for x, y in at] or list(QUERIES)
    conditions = resolve_conditions(generator, options.classes, options.captions)
    truncation = Truncation(options.truncation_psi, options.truncation_cutoff)
    ws = styles(generator, [seed], c=conditions.vectors[0], truncation=truncation)
    image = next(synthesize(generator, ws, noise=options.noise, noise_seeds=[seed]))[0]
    photo = to_picture(image, generator.value_range).convert("RGB")
    blocks: list[dict[str, Any]] = []
    metadata = made_by(generator, options.command)
    rows: list[tuple[str, list[tuple[str, Image.Image]]]] = []

    def save_block(block: BlockAttention) -> None:
        out.mkdir(parents=True, exist_ok=True)
        name = f"{len(blocks):02d}-{block.resolution[0]}x{block.resolution[1]}-{block.kind}.png"
        save_picture(sheet(block, photo, queries, size), out / name, metadata)
        rows.append(_row(block, photo, queries, size))
        partitions = [{"label": part.label, **part.details} for part in block.partitions]
        record = {"path": block.path, "kind": block.kind, "resolution": list(block.resolution)}
        blocks.append(record | {"partitions": partitions, "picture": str(out / name)})

    with noise_mode("const" if options.noise == "random" else options.noise):
        unavailable = attention_maps(generator, ws, [(y, x) for x, y in queries], save_block)
    if not blocks:
        reasons = "; ".join(f"{each.path} ({each.kind}): {each.reason}" for each in unavailable)
        raise UsageError(f"{model} has no attention to show{': ' + reasons if reasons else ''}")
    marked = photo.resize(_fitted(photo.size, size), _filter(photo.width, size))
    for number, (x, y) in enumerate(queries, 1):
        spot = (x * marked.width, y * marked.height)
        _mark(marked, (spot[0] - 2, spot[1] - 2, spot[0] + 2, spot[1] + 2), str(number))
    save_picture(overview(marked, rows), out / "overview.png", metadata)
    return {
        "out": str(out),
        "overview": str(out / "overview.png"),
        "seed": seed,
        "conditions": conditions.labels(),
        "queries": [[int(x * width), int(y * height)] for x, y in queries],
        "blocks": blocks,
        "unavailable": [each._asdict() for each in unavailable],
    }


def sheet(block: BlockAttention, image: Image.Image, queries: Sequence[tuple[float, float]], size: int) -> Image.Image:
    """One block's attention: a column per head below its partition's name, a row per query, two rows of averages."""
    width, height = _fitted(image.size, size)
    lines = [(f"query {number}", block.weights[:, number - 1]) for number in range(1, len(queries) + 1)]
    names = [name for name, _ in lines] + ["received\non average"]
    names += ["mean query\nagainst keys"] if block.query_key is not None else []
    left = max(text_size(name)[0] for name in names) + 3 * GAP
    heads = sum(part.heads for part in block.partitions)
    titles = [f"{_heads(part.heads)}: {_label(part, block.resolution)}" for part in block.partitions]
    starts, x = [], left
    for part, title in zip(block.partitions, titles, strict=True):
        starts.append(x)
        x += max(part.heads * (width + GAP), text_size(title)[0] + GAP) + 3 * GAP
    heading = f"{block.path}: {block.kind} on {block.resolution[0]}x{block.resolution[1]} pixels, {_heads(heads)}"
    whole = (max(x, text_size(heading)[0] + 2 * GAP), 2 * (TITLE + 2 * GAP) + len(names) * (height + GAP))
    picture = Image.new("RGB", whole, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=12)
    pen.text((GAP, GAP), heading, fill="black", font=font)
    for title, start in zip(titles, starts, strict=True):
        pen.text((start, TITLE + 3 * GAP), title, fill="black", font=font)
    top = 2 * (TITLE + 2 * GAP)
    for row, name in enumerate(names):
        y = top + row * (height + GAP)
        pen.multiline_text((GAP, y + height / 2), name, fill="black", font=font, anchor="lm")
        head = 0
        for part, start in zip(block.partitions, starts, strict=True):
            for column in range(part.heads):
                if row < len(queries):
                    cell = over(image, block.weights[head, row], queries[row], zoom_of(part, block.resolution), size)
                elif row == len(queries):
                    cell = heat(block.received[head], (width, height))
                else:
                    assert block.query_key is not None
                    cell = heat(block.query_key[head], (width, height), "gray", lowest=None)
                picture.paste(cell, (start + column * (width + GAP), y))
                head += 1
    return picture


def overview(image: Image.Image, rows: Sequence[tuple[str, list[tuple[str, Image.Image]]]]) -> Image.Image:
    """The image with its queries, and per block the attention of query 1, averaged over the heads of each partition."""
    font, (width, height) = ImageFont.load_default(size=12), image.size
    shown = "the image"
    left = max(text_size(name)[0] for name in (shown, *(name for name, _ in rows))) + 3 * GAP
    step = max(width, *(text_size(label)[0] for _, cells in rows for label, _ in cells)) + 2 * GAP
    columns = max(len(cells) for _, cells in rows)
    line = height + TITLE + 2 * GAP
    caption = "attention of query 1, mean of the heads"
    size = (max(left + columns * step, left + width + 3 * GAP + text_size(caption)[0]), line * (len(rows) + 1))
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    pen.text((GAP, height / 2), shown, fill="black", font=font, anchor="lm")
    picture.paste(image, (left, 0))
    pen.text((left + width + 3 * GAP, height / 2), caption, fill="black", font=font, anchor="lm")
    for number, (name, cells) in enumerate(rows, 1):
        pen.multiline_text((GAP, number * line + height / 2), name, fill="black", font=font, anchor="lm")
        for column, (label, cell) in enumerate(cells):
            picture.paste(cell, (left + column * step, number * line))
            pen.text((left + column * step, number * line + height + 1), label, fill="black", font=font)
    return picture


def _row(
    block: BlockAttention, image: Image.Image, queries: Sequence[tuple[float, float]], size: int
) -> tuple[str, list[tuple[str, Image.Image]]]:
    cells, first = [], 0
    for part in block.partitions:
        weights = block.weights[first : first + part.heads, 0].mean(0)
        cell = over(image, weights, queries[0], zoom_of(part, block.resolution), size)
        cells.append((_label(part, block.resolution), cell))
        first += part.heads
    path = block.path.removeprefix("synthesis.")
    return f"{path}\n{block.kind}\n{block.resolution[0]}x{block.resolution[1]}", cells


def zoom_of(part: Partition, resolution: tuple[int, int]) -> int:
    """The factor by which pictures of a query are enlarged, so that small windows on large maps are visible."""
    reach = max(part.details.get("window_size", resolution))
    if "kernel_size" in part.details:
        reach = part.details["kernel_size"] * part.details["dilation"]
    zoom = 1
    while 4 * zoom * reach <= min(resolution):
        zoom *= 2
    return zoom


def over(
    image: Image.Image, weights: Float[Tensor, "h w"], query: tuple[float, float], zoom: int, size: int
) -> Image.Image:
    """The image, grey and dim, with the weights as a heat map on top, enlarged around the query."""
    height, width = weights.shape
    x, y = (min(int(position * side), side - 1) for position, side in zip(query, (width, height), strict=True))
    across, down = -(-width // zoom), -(-height // zoom)
    left, top = min(max(x - across // 2, 0), width - across), min(max(y - down // 2, 0), height - down)
    cell = _fitted((image.width * across / width, image.height * down / height), size)
    wide, high = image.width / width, image.height / height  # of a pixel of the map, in the image
    box = (left * wide, top * high, (left + across) * wide, (top + down) * high)
    part = image.convert("L").resize(cell, _filter(image.width / zoom, size), box=box)
    magnitude = weights.abs()
    shown = magnitude[top : top + down, left : left + across] / magnitude.max().clamp(min=1e-12)
    if min(cell[0] / across, cell[1] / down) < 1:  # single pixels of a dilated window have to stay visible
        shown = F.adaptive_max_pool2d(shown[None], cell[::-1])[0]
    strength = _resized(shown, cell)
    colours = matplotlib.colormaps["inferno"](0.35 + 0.65 * strength)[..., :3]
    grey = np.asarray(part, dtype=np.float64)[..., None].repeat(3, -1) / 255
    opacity = 0.85 * np.sqrt(strength)[..., None]
    picture = _picture(0.6 * grey * (1 - opacity) + colours * opacity)
    scale = cell[0] / across, cell[1] / down
    corners = ((x - left) * scale[0], (y - top) * scale[1], (x - left + 1) * scale[0], (y - top + 1) * scale[1])
    _mark(picture, corners)
    return picture


def heat(
    values: Float[Tensor, "h w"], size: tuple[int, int], colours: str = "inferno", lowest: float | None = 0.0
) -> Image.Image:
    """Numbers as colours, scaled from `lowest`, or the smallest number, to the largest."""
    low = float(values.min()) if lowest is None else min(lowest, float(values.min()))
    spread = max(float(values.max()) - low, 1e-12)
    return _picture(matplotlib.colormaps[colours](_resized((values - low) / spread, size))[..., :3])


def _resized(values: Tensor, size: tuple[int, int]) -> Any:
    """A map resized to a picture: nearest pixels where it grows, averages where it shrinks."""
    width, height = size
    mode = "nearest-exact" if values.shape[0] <= height and values.shape[1] <= width else "area"
    return F.interpolate(values[None, None], (height, width), mode=mode)[0, 0].numpy()


def _fitted(sides: tuple[float, float], size: int) -> tuple[int, int]:
    longest = max(sides)
    return max(1, round(sides[0] * size / longest)), max(1, round(sides[1] * size / longest))


def _filter(pixels: float, size: int) -> Image.Resampling:
    """Nearest for images of few pixels, Lanczos for others."""
    return Image.Resampling.NEAREST if pixels * 4 <= size else Image.Resampling.LANCZOS


def _picture(values: Any) -> Image.Image:
    return Image.fromarray((values * 255).round().clip(0, 255).astype(np.uint8))


def _mark(picture: Image.Image, box: tuple[float, float, float, float], text: str = "") -> None:
    """Draw a frame around a query and its number beside it."""
    pen = ImageDraw.Draw(picture)
    left, top, right, bottom = box
    for distance, colour in ((1, MARK), (2, "black")):
        pen.rectangle((left - distance, top - distance, right + distance - 1, bottom + distance - 1), outline=colour)
    if text:
        font = ImageFont.load_default(size=12)
        pen.text(
            (right + 4, (top + bottom) / 2),
            text,
            fill=MARK,
            font=font,
            anchor="lm",
            stroke_width=2,
            stroke_fill="black",
        )


def _label(part: Partition, resolution: tuple[int, int]) -> str:
    zoom = zoom_of(part, resolution)
    return part.label + (f" ({zoom}x enlarged)" if zoom > 1 else "")


def _heads(count: int) -> str:
    return f"{count} head" + "s" * (count > 1)
