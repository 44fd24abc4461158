"""Walks from seed to seed through the latents: frames, a strip of them, or an animation.

In z along the sphere, on which nearly all of N(0,1) lies: White 2016, https://arxiv.org/abs/1609.04468; in w straight:
StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from assemblies import Generator
from blocks.common.noise import NoiseMode
from blocks.common.weight_cache import frozen_weights
from ganblocks.errors import UsageError
from ganblocks.precision import Precision
from ganblocks.randomness import latents
from ganblocks.sampling.generate import (
    Truncation,
    conditions_for,
    load_generator,
    map_latents,
    resolve_conditions,
    synthesize,
)
from ganblocks.sampling.grids import ANIMATIONS, STILLS, destination, save_animation, save_grid, to_picture

Space = Literal["w", "z"]


@torch.no_grad()
@frozen_weights()
def interpolate(
    generator: Generator,
    seeds: Sequence[int],
    steps: int = 8,
    *,
    space: str = "w",
    c: Float[Tensor, " d"] | Float[Tensor, "n d"] | None = None,
    truncation_psi: float = 1.0,
) -> Float[Tensor, "n c h w"]:
    """Images on the way from seed to seed, `steps` for each stretch, the last seed's image at the end.

    Args:
        generator: In eval mode.
        seeds: The stations, two at least.
        steps: Images from one station to before the next.
        space: "w" goes straight between style vectors, "z" along the sphere between latents.
        c: The condition of all images, or one for each station; with a conditional generator, None takes the class of
            the first seed.
        truncation_psi: As in `draw`.
    """
    ws = styles_on_the_way(generator, seeds, steps, space=space, c=c, truncation=(truncation_psi, None))
    return torch.cat(list(synthesize(generator, ws)))


@torch.no_grad()
def styles_on_the_way(
    generator: Generator,
    seeds: Sequence[int],
    steps: int,
    *,
    space: str = "w",
    c: Float[Tensor, " d"] | Float[Tensor, "n d"] | None = None,
    truncation: Truncation = (1.0, None),
) -> Float[Tensor, "n num_ws w"]:
    """The style vectors of `interpolate`."""
    if len(seeds) < 2 or space not in ("w", "z"):
        raise ValueError(
            f"interpolation goes between two seeds or more, in space w or z; not {list(seeds)} in {space!r}"
        )
    stations = latents(seeds, generator.z_dim)
    told = conditions_for(generator, c, seeds)
    if told is not None and c is None:
        told = told[:1].expand(len(seeds), -1)
    amounts = [step / steps for step in range(steps)]
    if space == "w":
        ends = map_latents(generator, stations, told, truncation)
        return torch.stack([*(a.lerp(b, t) for a, b in pairwise(ends) for t in amounts), ends[-1]])
    z = torch.stack([*(slerp(a, b, t) for a, b in pairwise(stations) for t in amounts), stations[-1]])
    if told is not None:
        told = torch.stack([*(a.lerp(b, t) for a, b in pairwise(told) for t in amounts), told[-1]])
    return map_latents(generator, z, told, truncation)


def slerp(a: Float[Tensor, " z"], b: Float[Tensor, " z"], t: Tensor | float) -> Float[Tensor, " z"]:
    """Between two latents along the arc, so that those on the way are as long as latents are (Shoemake 1985)."""
    cosine: Tensor = (a / a.norm() @ (b / b.norm())).clamp(-1, 1)
    angle = cosine.acos()
    if angle.sin().abs() < 1e-6:  # the same direction, or opposite: no arc is determined
        return a.lerp(b, torch.as_tensor(t, dtype=a.dtype, device=a.device))
    between: Tensor = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()
    return between


@frozen_weights()
def interpolate_files(
    model: str | Path,
    seeds: Sequence[int],
    out: str | Path,
    *,
    steps: int = 24,
    space: Space = "w",
    loop: bool = False,
    fps: float = 24.0,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    classes: Sequence[int] = (),
    captions: Sequence[str] = (),
    noise: NoiseMode | None = None,
    batch_size: int | None = None,
    precision: Precision = "no",
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Write a walk as an animation (.gif, .apng, .webp), a grid with a row for each stretch, or a folder of frames.

    Raises:
        CheckpointError: There is no model.
        DataError: A class or caption is none of the generator's.
        UsageError: The suffix is none of those, or the stations are too few.
    """
    out = Path(out)
    suffix = destination(out, tuple(dict.fromkeys((*ANIMATIONS, *STILLS))))
    if len(seeds) < 2:
        raise UsageError(f"a walk goes between two seeds or more, such as 0-3; {seeds[0]} alone leads nowhere")
    generator = load_generator(model, device)
    told = resolve_conditions(generator, classes, captions)
    if len(told.conditions) not in (1, len(seeds)):
        raise UsageError(f"{len(told.conditions)} conditions for {len(seeds)} seeds; give one for all, or one for each")
    stations = [*seeds, seeds[0]] if loop else list(seeds)
    c = None
    if told.conditions[0] is not None:
        each = told.conditions * len(seeds) if len(told.conditions) == 1 else told.conditions
        c = torch.stack([one for one in each if one is not None])
        c = torch.cat([c, c[:1]]) if loop else c
    truncation = (truncation_psi, truncation_cutoff)
    ws = styles_on_the_way(generator, stations, steps, space=space, c=c, truncation=truncation)
    if loop:
        ws = ws[:-1]  # the first frame follows the last one
    frames = synthesize(generator, ws, noise=noise, batch_size=batch_size, precision=precision)
    told_of = {
        "out": str(out),
        "images": len(ws),
        "seeds": stations,
        "told": [name for name in told.names if name],
        "space": space,
    }
    if not suffix:
        out.mkdir(parents=True, exist_ok=True)
        number = 0
        for batch in frames:
            for image in batch:
                save_grid(image[None], out / f"frame{number:05d}.png", value_range=generator.value_range)
                number += 1
        return told_of
    out.parent.mkdir(parents=True, exist_ok=True)
    if suffix in ANIMATIONS:
        save_animation([to_picture(image, generator.value_range) for batch in frames for image in batch], out, fps)
        return told_of
    rows = [f"seed {seed}" for seed in stations[:-1]]
    if not loop:  # the last station has no stretch of its own
        rows.append(f"seed {stations[-1]}")
    save_grid(torch.cat(list(frames)), out, columns=steps, row_labels=rows, value_range=generator.value_range)
    return told_of
