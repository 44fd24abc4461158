"""Images along directions of the style space: strips of one seed, and edits of many.

Layer-wise edits: GANSpace, Härkönen et al. 2020, https://arxiv.org/abs/2004.02546, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.common.weight_cache import frozen_weights
from ganblocks.errors import UsageError
from ganblocks.latents.directions import (
    Directions,
    Method,
    find_directions,
    holds_directions,
    load_directions,
    save_directions,
)
from ganblocks.options import accepts
from ganblocks.sampling.conditions import NamedConditions, resolve_conditions
from ganblocks.sampling.generate import Truncation, styles, synthesize
from ganblocks.sampling.grids import save_grid
from ganblocks.sampling.load import load_on_device
from ganblocks.sampling.options import SamplingOptions
from ganblocks.sampling.pictures import check_picture, made_by
from ganblocks.sampling.style_mixing import StyleGroup, choose_groups

SHOWN = (-3.0, -1.5, 0.0, 1.5, 3.0)  # standard deviations


def edit(
    ws: Float[Tensor, "n num_ws w"],
    directions: Directions,
    index: int,
    strength: float,
    groups: Sequence[StyleGroup] = (),
) -> Float[Tensor, "n num_ws w"]:
    """Style vectors moved along a direction.

    Args:
        ws: Style vectors.
        directions: The directions.
        index: Which of them.
        strength: How far, in standard deviations of w along the direction.
        groups: Styles that are moved; all where there is no group.
    """
    step = strength * directions.scales[index] * directions.vectors[index]
    moved = ws.clone()
    chosen = [i for group in groups for i in group.indices] or list(range(ws.shape[1]))
    moved[:, chosen] += step.to(ws)
    return moved


@accepts(SamplingOptions)
@frozen_weights()
def write_directions(
    model: str | Path,
    out: str | Path,
    *,
    count: int = 10,
    method: Method = "ganspace",
    seed: int = 0,
    options: SamplingOptions,
) -> dict[str, Any]:
    """Find directions, write them as a .safetensors file, and beside it a picture with a strip for each.

    Args:
        model: A run folder or a model file.
        out: The .safetensors file; the picture has the same name with .png.
        count: Number of directions.
        method: "ganspace" or "sefa".
        seed: Seed of the image in the strips.

    Raises:
        CheckpointError: There is no model.
        DataError: The generator does not have a class or caption.
        UsageError: `out` has another suffix or is another file, or there are not so many directions.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: directions are a .safetensors file")
    if out.exists() and not holds_directions(out):
        raise UsageError(f"--out {out}: exists and holds no directions, such as a model; choose another name")
    generator = load_on_device(model, options)
    c = _one(resolve_conditions(generator, options.classes, options.captions))
    try:
        directions = find_directions(generator, count, method=method, c=c)._replace(model=str(model))
    except ValueError as error:
        raise UsageError(str(error)) from None
    generator = generator.optimize_for_inference(precision=options.precision)
    truncation = Truncation(options.truncation_psi, options.truncation_cutoff)
    ws = styles(generator, [seed], c=c, truncation=truncation)
    moved = [edit(ws, directions, index, strength) for index in range(count) for strength in SHOWN]
    images = torch.cat(
        list(synthesize(generator, torch.cat(moved), noise=options.noise, batch_size=options.batch_size))
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    save_directions(out, directions)
    picture = out.with_suffix(".png")
    rows = [f"{method} {index}" for index in range(count)]
    columns = [f"{strength:+g} sd" if strength else f"seed {seed}" for strength in SHOWN]
    save_grid(
        images,
        picture,
        columns=len(SHOWN),
        row_labels=rows,
        column_labels=columns,
        value_range=generator.value_range,
        scale=options.scale,
        metadata=made_by(generator, options.command),
    )
    return {"out": str(out), "picture": str(picture), "method": method, "scales": directions.scales.tolist()}


@accepts(SamplingOptions)
@frozen_weights()
def save_edits(
    model: str | Path,
    seeds: Sequence[int],
    directions: str | Path,
    out: str | Path,
    *,
    index: int = 0,
    strengths: Sequence[float] = SHOWN,
    groups: Sequence[str] = (),
    options: SamplingOptions,
) -> dict[str, Any]:
    """Write a picture with a row for each seed and a column for each strength of a direction.

    Args:
        model: A run folder or a model file.
        seeds: Random seeds.
        directions: A file of `write_directions`.
        out: The picture.
        index: Which direction of the file.
        strengths: In standard deviations of w along the direction.
        groups: Styles that are moved: coarse, middle, fine, or indices such as 0-3; empty for all.

    Raises:
        CheckpointError: There is no model, or the directions are not for it.
        DataError: The generator does not have a class or caption.
        UsageError: There is no such direction or style, or `out` is not a picture.
    """
    out = Path(out)
    check_picture(out)
    generator = load_on_device(model, options)
    loaded = load_directions(directions, generator)
    if not 0 <= index < len(loaded.vectors):
        raise UsageError(f"--index {index}: {directions} has directions 0 to {len(loaded.vectors) - 1}")
    generator = generator.optimize_for_inference(precision=options.precision)
    chosen = choose_groups(generator, groups) if groups else []
    c = _one(resolve_conditions(generator, options.classes, options.captions))
    ws = styles(generator, seeds, c=c, truncation=Truncation(options.truncation_psi, options.truncation_cutoff))
    moved = torch.stack([edit(ws, loaded, index, strength, chosen) for strength in strengths], 1).flatten(0, 1)
    images = torch.cat(list(synthesize(generator, moved, noise=options.noise, batch_size=options.batch_size)))
    out.parent.mkdir(parents=True, exist_ok=True)
    save_grid(
        images,
        out,
        columns=len(strengths),
        row_labels=[f"seed {seed}" for seed in seeds],
        column_labels=[f"{strength:+g} sd" if strength else "0" for strength in strengths],
        value_range=generator.value_range,
        scale=options.scale,
        metadata=made_by(generator, options.command),
    )
    return {"out": str(out), "images": len(images), "method": loaded.method, "index": index}


def _one(conditions: NamedConditions) -> Float[Tensor, " d"] | None:
    if len(conditions.vectors) > 1:
        raise UsageError(f"directions have one condition, not {len(conditions.vectors)}; give one of them")
    return conditions.vectors[0]
