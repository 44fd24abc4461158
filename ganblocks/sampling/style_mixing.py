"""Style mixing: images with some of their style vectors taken from other images.

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
from blocks.common.weight_cache import frozen_weights
from ganblocks.errors import UsageError
from ganblocks.options import accepts
from ganblocks.sampling.conditions import resolve_conditions
from ganblocks.sampling.generate import Truncation, styles, synthesize
from ganblocks.sampling.grids import save_grid
from ganblocks.sampling.load import load_optimized
from ganblocks.sampling.options import SamplingOptions
from ganblocks.sampling.pictures import check_picture, made_by

GROUPS = ("coarse", "middle", "fine")
COARSE, MIDDLE = 8, 32  # px; the largest maps of these groups in the paper


class StyleGroup(NamedTuple):
    """Some of a generator's style vectors: their indices, and the smallest and largest map they are used on."""

    name: str
    indices: list[int]
    resolutions: tuple[int, int] | None

    def __str__(self) -> str:
        first, last = self.indices[0], self.indices[-1]
        span = f"{first}-{last}" if len(self.indices) > 1 else str(first)
        if self.indices != list(range(first, last + 1)):
            span = ",".join(map(str, self.indices))
        if self.resolutions is None:
            return f"{self.name} styles {span}".lstrip()
        low, high = self.resolutions
        return f"{self.name} styles {span}\n{low if low == high else f'{low}-{high}'} px".lstrip()


def style_resolutions(generator: Generator) -> list[int] | None:
    """The side in pixels of the map on which each style vector is first used; None where it is not known."""
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


def style_groups(generator: Generator) -> dict[str, StyleGroup]:
    """Coarse, middle and fine styles as in the paper: those of maps up to 8, of 16 and 32, and of more pixels.

    Where a generator lacks one of the three, they are thirds of its style vectors.
    """
    sides = style_resolutions(generator)
    count = generator.num_ws
    parts: list[list[int]] = [[], [], []]
    for index, side in enumerate(sides or ()):
        parts[0 if side <= COARSE else 1 if side <= MIDDLE else 2].append(index)
    if not all(parts):
        bounds = [round(count * third / 3) for third in range(4)]
        parts = [list(range(a, b)) for a, b in pairwise(bounds)]
    return {name: _group(name, part, sides) for name, part in zip(GROUPS, parts, strict=True) if part}


def choose_groups(generator: Generator, names: Sequence[str]) -> list[StyleGroup]:
    """Groups by name, or by indices such as 0-3; all groups where no name is given.

    Raises:
        UsageError: There are no such styles.
    """
    groups, sides, chosen = style_groups(generator), style_resolutions(generator), []
    for name in names or groups:
        if name in groups:
            chosen.append(groups[name])
            continue
        first, dash, last = name.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"--styles {name}: write {', '.join(groups)}, or indices such as 0-3")
        begin, end = int(first), int(last or first)
        if not begin <= end < generator.num_ws:
            raise UsageError(f"--styles {name}: the generator has style vectors 0 to {generator.num_ws - 1}")
        chosen.append(_group("", list(range(begin, end + 1)), sides))
    return chosen


def _group(name: str, indices: list[int], sides: Sequence[int] | None) -> StyleGroup:
    if sides is None:
        return StyleGroup(name, indices, None)
    used_at = [sides[index] for index in indices]
    return StyleGroup(name, indices, (min(used_at), max(used_at)))


def mix(destination: Float[Tensor, "n w"], source: Float[Tensor, "n w"], group: StyleGroup) -> Float[Tensor, "n w"]:
    """The style vectors of `destination` with those of a group taken from `source`."""
    mixed = destination.clone()
    mixed[group.indices] = source[group.indices]
    return mixed


@accepts(SamplingOptions)
@frozen_weights()
def save_style_mixing(
    model: str | Path,
    sources: Sequence[int],
    destinations: Sequence[int],
    out: str | Path,
    *,
    groups: Sequence[str] = (),
    options: SamplingOptions,
) -> dict[str, Any]:
    """Write the grid: sources above, destinations on the left, once for each group of styles that is mixed in.

    Args:
        model: A run folder or a model file.
        sources: Seeds whose styles are taken: the columns.
        destinations: Seeds that receive them: the rows.
        out: The picture.
        groups: coarse, middle, fine, or indices such as 0-3; empty for all three groups.

    Raises:
        CheckpointError: There is no model.
        DataError: The generator does not have a class or caption.
        UsageError: There are no such styles, or `out` is not a picture.
    """
    out = Path(out)
    check_picture(out)
    generator = load_optimized(model, options)
    conditions = resolve_conditions(generator, options.classes, options.captions)
    if len(conditions.vectors) > 1:
        raise UsageError(f"a style-mixing grid has one condition, not {len(conditions.vectors)}; give one of them")
    chosen = choose_groups(generator, groups)
    truncation = Truncation(options.truncation_psi, options.truncation_cutoff)
    c = conditions.vectors[0]
    source_ws, destination_ws = (
        styles(generator, seeds, c=c, truncation=truncation) for seeds in (sources, destinations)
    )
    mixed_ws = [mix(onto, each, group) for group in chosen for onto in destination_ws for each in source_ws]
    ws = torch.stack([*source_ws, *destination_ws, *mixed_ws])
    batches = synthesize(generator, ws, noise=options.noise, batch_size=options.batch_size)
    images = torch.cat(list(batches)).unbind()
    count = len(sources)
    top, left, mixed = images[:count], images[count : count + len(destinations)], images[count + len(destinations) :]
    cells: list[Tensor | None] = [None, *top]
    for row in range(len(chosen) * len(destinations)):
        cells += [left[row % len(destinations)], *mixed[row * count : (row + 1) * count]]
    rows = ["sources", *(f"{group}\nonto seed {seed}" for group in chosen for seed in destinations)]
    out.parent.mkdir(parents=True, exist_ok=True)
    save_grid(
        cells,
        out,
        columns=count + 1,
        row_labels=rows,
        column_labels=["", *(f"seed {seed}" for seed in sources)],
        value_range=generator.value_range,
        scale=options.scale,
        metadata=made_by(generator, options.command),
    )
    return {
        "out": str(out),
        "images": len(images),
        "sources": list(sources),
        "destinations": list(destinations),
        "styles": {str(group).partition("\n")[0]: group.indices for group in chosen},
        "conditions": conditions.labels(),
    }
