"""Pictures of attention: over the image for chosen pixels, on average, and by queries and keys.

The last is the picture that the published code of StyleNAT, Walton et al. 2022, https://arxiv.org/abs/2211.05770,
draws: the mean query of a head against the key of each pixel, without softmax and without window.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from blocks.common.noise import NoiseMode, noise_mode
from ganblocks.errors import UsageError
from ganblocks.sampling.attention_maps import BlockAttention, Partition, attention_maps
from ganblocks.sampling.generate import load_generator, resolve_conditions, styles, synthesize
from ganblocks.sampling.grids import STILLS, save_picture, text_size, to_picture

PLACES = ((0.25, 0.25), (0.5, 0.5), (0.7, 0.75))  # x, y of the queries unless somebody says
MARK = (0, 230, 255)
GAP, TITLE = 3, 13  # px


def attention_map_files(
    model: str | Path,
    seed: int,
    out: str | Path,
    *,
    at: Sequence[tuple[int, int]] = (),
    size: int = 128,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    classes: Sequence[int] = (),
    captions: Sequence[str] = (),
    noise: NoiseMode | None = None,
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Write a folder of pictures, one for each block of attention, and an overview.

    Args:
        model: A model file or run folder.
        seed: The image.
        out: The folder.
        at: Queries as x, y in pixels of the image; by default three.
        size: The longer side of each small picture, in pixels.
        truncation_psi: As in `draw`.
        truncation_cutoff: As in `draw`.
        classes: The class, or none.
        captions: The caption, or none.
        noise: As in `draw`.
        device: Where to compute.

    Raises:
        CheckpointError: There is no model.
        DataError: A class or caption is none of the generator's.
        UsageError: A query lies outside the image, or the model has no attention.
    """
    out = Path(out)
    if out.is_file() or out.suffix.lower() in STILLS:
        raise UsageError(f"attention is a folder of pictures; {out} is one file")
    generator = load_generator(model, device)
    height, width = generator.resolution
    if lost := [(x, y) for x, y in at if x >= width or y >= height]:
        raise UsageError(f"the pixel {lost[0][0]},{lost[0][1]} lies outside the image of {width} x {height} pixels")
    places = [((x + 0.5) / width, (y + 0.5) / height) for x, y in at] or list(PLACES)
    told = resolve_conditions(generator, classes, captions)
    ws = styles(generator, [seed], c=told.conditions[0], truncation=(truncation_psi, truncation_cutoff))
    image = next(synthesize(generator, ws, noise=noise, noise_seeds=[seed]))[0]
    painted = to_picture(image, generator.value_range).convert("RGB")
    blocks: list[dict[str, Any]] = []
    rows: list[tuple[str, list[tuple[str, Image.Image]]]] = []
    written: list[Path] = []

    def seen(found: BlockAttention) -> None:
        out.mkdir(parents=True, exist_ok=True)
        name = f"{len(blocks):02d}-{found.resolution[0]}x{found.resolution[1]}-{found.kind}.png"
        save_picture(sheet(found, painted, places, size), out / name)
        written.append(out / name)
        rows.append(_row(found, painted, places, size))
        partitions = [{"label": part.label, **part.about} for part in found.partitions]
        about = {"path": found.path, "kind": found.kind, "resolution": list(found.resolution)}
        blocks.append(about | {"partitions": partitions, "picture": str(out / name)})

    with noise_mode("const" if noise == "random" else noise):
        unseen = attention_maps(generator, ws, [(y, x) for x, y in places], seen)
    if not blocks:
        why = "; ".join(f"{each.path} ({each.kind}): {each.reason}" for each in unseen)
        raise UsageError(f"{model} has no attention to picture{': ' + why if why else ''}")
    marked = painted.resize(_fitted(painted.size, size), _filter(painted.width, size))
    for number, (x, y) in enumerate(places, 1):
        spot = (x * marked.width, y * marked.height)
        _mark(marked, (spot[0] - 2, spot[1] - 2, spot[0] + 2, spot[1] + 2), str(number))
    save_picture(overview(marked, rows), out / "overview.png")
    return {
        "out": str(out),
        "overview": str(out / "overview.png"),
        "seed": seed,
        "told": [name for name in told.names if name],
        "queries": [[int(x * width), int(y * height)] for x, y in places],
        "blocks": blocks,
        "unseen": [each._asdict() for each in unseen],
    }


def sheet(found: BlockAttention, image: Image.Image, places: Sequence[tuple[float, float]], size: int) -> Image.Image:
    """One block's attention: a column for each head, under its partition's name; a row for each query, and two more."""
    width, height = _fitted(image.size, size)
    lines = [(f"query {number}", found.weights[:, number - 1]) for number in range(1, len(places) + 1)]
    names = [name for name, _ in lines] + ["received\non average"]
    names += ["mean query\nagainst keys"] if found.query_key is not None else []
    left = max(text_size(name)[0] for name in names) + 3 * GAP
    heads = sum(part.heads for part in found.partitions)
    titles = [f"{_heads(part.heads)}: {_label(part, found.resolution)}" for part in found.partitions]
    starts, x = [], left
    for part, title in zip(found.partitions, titles, strict=True):
        starts.append(x)
        x += max(part.heads * (width + GAP), text_size(title)[0] + GAP) + 3 * GAP
    heading = f"{found.path}: {found.kind} on {found.resolution[0]}x{found.resolution[1]} pixels, {_heads(heads)}"
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
        for part, start in zip(found.partitions, starts, strict=True):
            for column in range(part.heads):
                if row < len(places):
                    cell = over(image, found.weights[head, row], places[row], zoom_of(part, found.resolution), size)
                elif row == len(places):
                    cell = heat(found.received[head], (width, height))
                else:
                    assert found.query_key is not None
                    cell = heat(found.query_key[head], (width, height), "gray", lowest=None)
                picture.paste(cell, (start + column * (width + GAP), y))
                head += 1
    return picture


def overview(image: Image.Image, rows: Sequence[tuple[str, list[tuple[str, Image.Image]]]]) -> Image.Image:
    """The image with its queries, and for each block what the heads of each partition attend to, on average."""
    font, (width, height) = ImageFont.load_default(size=12), image.size
    shown = "the image"
    left = max(text_size(name)[0] for name in (shown, *(name for name, _ in rows))) + 3 * GAP
    step = max(width, *(text_size(label)[0] for _, cells in rows for label, _ in cells)) + 2 * GAP
    columns = max(len(cells) for _, cells in rows)
    line = height + TITLE + 2 * GAP
    said = "what query 1 attends to, mean of the heads"
    size = (max(left + columns * step, left + width + 3 * GAP + text_size(said)[0]), line * (len(rows) + 1))
    picture = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(picture)
    pen.text((GAP, height / 2), shown, fill="black", font=font, anchor="lm")
    picture.paste(image, (left, 0))
    pen.text((left + width + 3 * GAP, height / 2), said, fill="black", font=font, anchor="lm")
    for number, (name, cells) in enumerate(rows, 1):
        pen.multiline_text((GAP, number * line + height / 2), name, fill="black", font=font, anchor="lm")
        for column, (label, cell) in enumerate(cells):
            picture.paste(cell, (left + column * step, number * line))
            pen.text((left + column * step, number * line + height + 1), label, fill="black", font=font)
    return picture


def _row(
    found: BlockAttention, image: Image.Image, places: Sequence[tuple[float, float]], size: int
) -> tuple[str, list[tuple[str, Image.Image]]]:
    cells, first = [], 0
    for part in found.partitions:
        weights = found.weights[first : first + part.heads, 0].mean(0)
        cell = over(image, weights, places[0], zoom_of(part, found.resolution), size)
        cells.append((_label(part, found.resolution), cell))
        first += part.heads
    path = found.path.removeprefix("synthesis.")
    return f"{path}\n{found.kind}\n{found.resolution[0]}x{found.resolution[1]}", cells


def zoom_of(part: Partition, resolution: tuple[int, int]) -> int:
    """By how much pictures of a query are enlarged, so that windows that are small on their map can be seen."""
    reach = max(part.about.get("window_size", resolution))
    if "kernel_size" in part.about:
        reach = part.about["kernel_size"] * part.about["dilation"]
    zoom = 1
    while 4 * zoom * reach <= min(resolution):
        zoom *= 2
    return zoom


def over(
    image: Image.Image, weights: Float[Tensor, "h w"], place: tuple[float, float], zoom: int, size: int
) -> Image.Image:
    """The image, grey and dim, lit up where the weights are, the largest brightest; enlarged around the query."""
    height, width = weights.shape
    (x, y), (across, down) = (
        (min(int(p * n), n - 1) for p, n in zip(place, (width, height), strict=True)),
        (
            -(-width // zoom),
            -(-height // zoom),
        ),
    )
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
    """A map of numbers as colours, from the lowest, or from `lowest`, to the highest."""
    low = float(values.min()) if lowest is None else min(lowest, float(values.min()))
    spread = max(float(values.max()) - low, 1e-12)
    return _picture(matplotlib.colormaps[colours](_resized((values - low) / spread, size))[..., :3])


def _resized(values: Tensor, size: tuple[int, int]) -> Any:
    """A map as large as a picture: pixels stay squares where it grows, and are averaged where it shrinks."""
    width, height = size
    if values.shape[0] <= height and values.shape[1] <= width:
        return F.interpolate(values[None, None], (height, width), mode="nearest-exact")[0, 0].numpy()
    return F.interpolate(values[None, None], (height, width), mode="area")[0, 0].numpy()


def _fitted(sides: tuple[float, float], size: int) -> tuple[int, int]:
    longest = max(sides)
    return max(1, round(sides[0] * size / longest)), max(1, round(sides[1] * size / longest))


def _filter(pixels: float, size: int) -> Image.Resampling:
    """Few pixels stay squares; where there are more, they are resampled smoothly."""
    return Image.Resampling.NEAREST if pixels * 4 <= size else Image.Resampling.LANCZOS


def _picture(values: Any) -> Image.Image:
    return Image.fromarray((values * 255).round().clip(0, 255).astype(np.uint8))


def _mark(picture: Image.Image, box: tuple[float, float, float, float], text: str = "") -> None:
    """A frame around a query, not over it, and its number beside."""
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
