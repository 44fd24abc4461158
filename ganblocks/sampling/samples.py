"""Samples on disk: a grid of all seeds, or a folder with a file per seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from blocks.common.weight_cache import frozen_weights
from ganblocks.options import accepts
from ganblocks.sampling.conditions import resolve_conditions
from ganblocks.sampling.generate import batch_size_of, generate
from ganblocks.sampling.grids import save_grid, to_picture
from ganblocks.sampling.load import load_optimized
from ganblocks.sampling.options import SamplingOptions
from ganblocks.sampling.pictures import destination, made_by, save_picture


@accepts(SamplingOptions)
@frozen_weights()
def save_samples(
    model: str | Path, seeds: Sequence[int], out: str | Path, *, options: SamplingOptions
) -> dict[str, Any]:
    """Write the images of seeds. Several classes or captions make a row each, with a column per seed.

    Args:
        model: A run folder or a model file.
        seeds: Random seeds.
        out: A picture, for a grid of all images, or a folder, for a PNG each.

    Raises:
        CheckpointError: There is no model.
        DataError: The generator does not have a class or caption.
        UsageError: The suffix of `out` is not a picture's.
    """
    out = Path(out)
    suffix = destination(out)
    generator = load_optimized(model, options)
    conditions = resolve_conditions(generator, options.classes, options.captions)
    batch_size = options.batch_size or batch_size_of(generator)
    (out.parent if suffix else out).mkdir(parents=True, exist_ok=True)
    metadata = made_by(generator, options.command)
    batches = []
    for number, c in enumerate(conditions.vectors):
        for first in range(0, len(seeds), batch_size):
            part = seeds[first : first + batch_size]
            images = generate(generator, part, c=c, **options.synthesis())
            if suffix:
                batches.append(images)
                continue
            prefix = f"condition{number}-" if len(conditions.vectors) > 1 else ""
            for seed, image in zip(part, images, strict=True):
                picture = to_picture(image, generator.value_range, options.scale or 1)
                save_picture(picture, out / f"{prefix}seed{seed:04d}.png", metadata)
    if suffix:
        save_grid(
            torch.cat(batches),
            out,
            value_range=generator.value_range,
            scale=options.scale,
            metadata=metadata,
            **arrangement(seeds, conditions.names),
        )
    return {
        "out": str(out),
        "images": len(seeds) * len(conditions.vectors),
        "seeds": list(seeds),
        "conditions": conditions.labels(),
    }


def arrangement(seeds: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    """The arrangement of a grid: a row for each of several conditions, or about as many rows as columns.

    A single image has no label.
    """
    if len(names) > 1:
        return {
            "columns": len(seeds),
            "row_labels": names,
            "column_labels": [f"seed {seed}" for seed in seeds],
        }
    if len(seeds) == 1:
        return {}
    columns = math.ceil(math.sqrt(len(seeds)))
    rows = [f"{names[0]}\n{_span(seeds[first : first + columns])}" for first in range(0, len(seeds), columns)]
    return {"columns": columns, "row_labels": [row.strip() for row in rows]}


def _span(seeds: Sequence[int]) -> str:
    """Seeds as text such as seeds 3-6."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    consecutive = list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    return f"seeds {seeds[0]}-{seeds[-1]}" if consecutive else f"seeds {', '.join(map(str, seeds))}"
