"""The truncation sweep: the same seeds from the mean image to their own, quality against variety.

StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948, section B and figure 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from blocks.common.noise import NoiseMode
from blocks.common.weight_cache import frozen_weights
from ganblocks.errors import UsageError
from ganblocks.precision import Precision
from ganblocks.sampling.generate import generate, load_generator, resolve_conditions
from ganblocks.sampling.grids import destination, save_grid, scale_for, text_size


@frozen_weights()
def truncation_files(
    model: str | Path,
    seeds: Sequence[int],
    out: str | Path,
    *,
    psis: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    truncation_cutoff: int | None = None,
    classes: Sequence[int] = (),
    captions: Sequence[str] = (),
    noise: NoiseMode | None = None,
    batch_size: int | None = None,
    precision: Precision = "no",
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Write a grid: a row for each seed, a column for each psi, one grid below the other for several conditions.

    Raises:
        CheckpointError: There is no model.
        DataError: A class or caption is none of the generator's.
        UsageError: `out` is no picture.
    """
    out = Path(out)
    if not destination(out):
        raise UsageError(f"a truncation sweep is one picture; {out} has no suffix such as .png")
    generator = load_generator(model, device)
    told = resolve_conditions(generator, classes, captions)
    options: dict[str, Any] = {"truncation_cutoff": truncation_cutoff, "noise": noise}
    options |= {"batch_size": batch_size, "precision": precision}
    images: list[torch.Tensor] = []
    rows: list[str] = []
    for name, c in zip(*told, strict=True):
        columns = [generate(generator, seeds, c=c, truncation_psi=psi, **options) for psi in psis]
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
        scale=scale_for(generator.resolution[0], max(text_size(row)[1] for row in rows)),
    )
    return {
        "out": str(out),
        "images": len(images),
        "seeds": list(seeds),
        "psis": list(psis),
        "told": [name for name in told.names if name],
    }
