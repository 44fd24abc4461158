"""Truncation sweeps: the same seeds from the mean image to their own, fidelity against diversity.

StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948, section B and figure 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from blocks.common.weight_cache import frozen_weights
from ganblocks.options import accepts
from ganblocks.sampling.conditions import resolve_conditions
from ganblocks.sampling.generate import generate
from ganblocks.sampling.grids import save_grid
from ganblocks.sampling.load import load_optimized
from ganblocks.sampling.options import SamplingOptions
from ganblocks.sampling.pictures import check_picture, made_by


@accepts(SamplingOptions)
@frozen_weights()
def save_truncation_sweep(
    model: str | Path,
    seeds: Sequence[int],
    out: str | Path,
    *,
    psis: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    options: SamplingOptions,
) -> dict[str, Any]:
    """Write a grid with a row per seed and a column per psi; several conditions stack their grids.

    Args:
        model: A run folder or a model file.
        seeds: Random seeds.
        out: The picture.
        psis: Values of truncation_psi, one per column; `truncation_psi` itself is not used.

    Raises:
        CheckpointError: There is no model.
        DataError: The generator does not have a class or caption.
        UsageError: `out` is not a picture.
    """
    out = Path(out)
    check_picture(out)
    generator = load_optimized(model, options)
    conditions = resolve_conditions(generator, options.classes, options.captions)
    images: list[torch.Tensor] = []
    rows: list[str] = []
    for name, c in zip(*conditions, strict=True):
        columns = [generate(generator, seeds, c=c, **options.synthesis() | {"truncation_psi": psi}) for psi in psis]
        images += torch.stack(columns, 1).flatten(0, 1).unbind()
        rows += [f"seed {seed}" + (f"\n{name}" if name else "") for seed in seeds]
    out.parent.mkdir(parents=True, exist_ok=True)
    save_grid(
        images,
        out,
        columns=len(psis),
        row_labels=rows,
        column_labels=[f"psi {psi:g}" for psi in psis],
        value_range=generator.value_range,
        scale=options.scale,
        metadata=made_by(generator, options.command),
    )
    return {
        "out": str(out),
        "images": len(images),
        "seeds": list(seeds),
        "psis": list(psis),
        "conditions": conditions.labels(),
    }
