"""The style-mixing grid: what changes if some of an image's style vectors come from another image.

StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948, section 3.1 and figure 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from assemblies import Generator
from blocks.common.noise import NoiseMode
from blocks.common.weight_cache import frozen_weights
from ganblocks.errors import UsageError
from ganblocks.precision import Precision
from ganblocks.sampling.generate import load_generator, resolve_conditions, styles, synthesize
from ganblocks.sampling.grids import destination, save_grid, scale_for, text_size

GROUPS = ("coarse", "middle", "fine")
COARSE, MIDDLE = 8, 32  # px; the largest maps of these groups in the paper


class Styles(NamedTuple):
    """Some of a generator's style vectors."""

    name: str
    indices: list[int]
    resolutions: tuple[int, int] | None

    def __str__(self) -> str:
        span = f"{self.indices[0]}-{self.indices[-1]}" if len(self.indices) > 1 else str(self.indices[0])
        if self.indices != list(range(self.indices[0], self.indices[-1] + 1)):
            span = ",".join(map(str, self.indices))
        if self.resolutions is None:
            return f"{self.name} styles {span}" if self.name else f"styles {span}"
        low, high = self.resolutions
        return f"{self.name} styles {span}\n{low if low == high else f'{low}-{high}'} px".lstrip()


def resolutions_of(generator: Generator) -> list[int] | None:
    """The side of the map, in pixels, at which each style vector is first used; None where that is not known."""
    schedule = getattr(generator.synthesis, "schedule", None)
    steps = [step for step in type(generator).trace(generator.spec).steps if step.path[0] == "synthesis"]
    if schedule is None or len(schedule) != len(steps):
        return None
    sides: dict[int, int] = {}
    for step, part in zip(steps, schedule, strict=True):
        shape = step.features or step.image
        for index in range(part.start, part.stop):
            if shape is not None:
                sides.setdefault(index, max(shape[1:]))
    return [sides[index] for index in range(generator.num_ws)] if len(sides) == generator.num_ws else None


def groups_of(generator: Generator) -> dict[str, Styles]:
    """Coarse, middle and fine styles: those of maps up to 8, of 16 and 32, and of more pixels, as in the paper.

    Where a generator does not have all three, they are thirds of its style vectors.
    """
    sides = resolutions_of(generator)
    count = generator.num_ws
    parts: list[list[int]] = [[], [], []]
    for index, side in enumerate(sides or ()):
        parts[0 if side <= COARSE else 1 if side <= MIDDLE else 2].append(index)
    if not all(parts):
        bounds = [round(count * third / 3) for third in range(4)]
        parts = [list(range(a, b)) for a, b in pairwise(bounds)]
    return {name: _styles(name, part, sides) for name, part in zip(GROUPS, parts, strict=True) if part}


def choose(generator: Generator, asked: Sequence[str]) -> list[Styles]:
    """Groups by name, or by indices such as 0-3; all groups if none is asked for.

    Raises:
        UsageError: There are no such styles.
    """
    groups, sides, found = groups_of(generator), resolutions_of(generator), []
    for name in asked or groups:
        if name in groups:
            found.append(groups[name])
            continue
        first, dash, last = name.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UsageError(f"{name!r} names no styles; write {', '.join(groups)}, or numbers such as 0-3")
        indices = list(range(int(first), int(last or first) + 1))
        if not indices or indices[-1] >= generator.num_ws:
            raise UsageError(f"there are no styles {name}: the generator has styles 0 to {generator.num_ws - 1}")
        found.append(_styles("", indices, sides))
    return found


def _styles(name: str, indices: list[int], sides: Sequence[int] | None) -> Styles:
    if sides is None:
        return Styles(name, indices, None)
    chosen = [sides[index] for index in indices]
    return Styles(name, indices, (min(chosen), max(chosen)))


def mix(onto: Float[Tensor, "n w"], source: Float[Tensor, "n w"], chosen: Styles) -> Float[Tensor, "n w"]:
    """The style vectors of one image, with some of another's."""
    mixed = onto.clone()
    mixed[chosen.indices] = source[chosen.indices]
    return mixed


@frozen_weights()
def style_mix_files(
    model: str | Path,
    sources: Sequence[int],
    destinations: Sequence[int],
    out: str | Path,
    *,
    groups: Sequence[str] = (),
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    classes: Sequence[int] = (),
    captions: Sequence[str] = (),
    noise: NoiseMode | None = None,
    batch_size: int | None = None,
    precision: Precision = "no",
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Write the grid: sources above, destinations on the left, once for each group of styles that is taken over.

    Raises:
        CheckpointError: There is no model.
        DataError: A class or caption is none of the generator's.
        UsageError: There are no such styles, or `out` is no picture.
    """
    out = Path(out)
    if not destination(out):
        raise UsageError(f"a style-mixing grid is one picture; {out} has no suffix such as .png")
    generator = load_generator(model, device)
    told = resolve_conditions(generator, classes, captions)
    if len(told.conditions) > 1:
        raise UsageError(f"a style-mixing grid is of one condition, not of {len(told.conditions)}")
    bands = choose(generator, groups)
    truncation = (truncation_psi, truncation_cutoff)
    taken, kept = (
        styles(generator, seeds, c=told.conditions[0], truncation=truncation) for seeds in (sources, destinations)
    )
    ws = [*taken, *kept, *(mix(onto, each, band) for band in bands for onto in kept for each in taken)]
    options: dict[str, Any] = {"noise": noise, "batch_size": batch_size, "precision": precision}
    painted = torch.cat(list(synthesize(generator, torch.stack(ws), **options))).unbind()
    count = len(sources)
    top, left, mixed = painted[:count], painted[count : count + len(kept)], painted[count + len(kept) :]
    cells: list[Tensor | None] = [None, *top]
    for row in range(len(bands) * len(kept)):
        cells += [left[row % len(kept)], *mixed[row * count : (row + 1) * count]]
    rows = ["sources"]
    for band in bands:
        rows += [f"{band}\nonto seed {seed}" for seed in destinations]
    out.parent.mkdir(parents=True, exist_ok=True)
    save_grid(
        cells,
        out,
        columns=count + 1,
        row_labels=rows,
        column_labels=["", *(f"seed {seed}" for seed in sources)],
        value_range=generator.value_range,
        scale=scale_for(generator.resolution[0], max(text_size(row)[1] for row in rows)),
    )
    return {
        "out": str(out),
        "images": len(painted),
        "sources": list(sources),
        "destinations": list(destinations),
        "styles": {str(band).partition("\n")[0]: band.indices for band in bands},
        "told": [name for name in told.names if name],
    }
