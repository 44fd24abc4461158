"""Interpolation between seeds: frames, a strip of them, or an animation.

In z along the sphere near which samples of N(0,1) lie: White 2016, https://arxiv.org/abs/1609.04468; in w linearly:
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
from blocks.common.weight_cache import frozen_weights
from ganblocks.errors import UsageError
from ganblocks.options import accepts
from ganblocks.randomness import latents
from ganblocks.sampling.conditions import conditions_for, resolve_conditions
from ganblocks.sampling.generate import Truncation, map_latents, synthesize
from ganblocks.sampling.grids import check_size, save_grid, scale_for, to_picture
from ganblocks.sampling.load import load_optimized
from ganblocks.sampling.options import SamplingOptions
from ganblocks.sampling.pictures import ANIMATIONS, STILLS, destination, made_by, save_animation, save_picture

Space = Literal["w", "z"]


@torch.no_grad()
@frozen_weights()
def interpolate(
    generator: Generator,
    seeds: Sequence[int],
    steps: int = 8,
    *,
    space: Space = "w",
    c: Float[Tensor, " d"] | Float[Tensor, "n d"] | None = None,
    truncation_psi: float = 1.0,
) -> Float[Tensor, "n c h w"]:
    """Images between consecutive seeds, `steps` for each pair, and the last seed's image at the end.

    Args:
        generator: In eval mode.
        seeds: Two or more seeds.
        steps: Images from one seed to before the next.
        space: "w" interpolates style vectors linearly, "z" latents along the sphere.
        c: The condition of all images, or one per seed; for None a class-conditional generator takes the first seed's.
        truncation_psi: As in `generate`.
    """
    ws = interpolate_styles(generator, seeds, steps, space=space, c=c, truncation=Truncation(truncation_psi))
    return torch.cat(list(synthesize(generator, ws)))


@torch.no_grad()
def interpolate_styles(
    generator: Generator,
    seeds: Sequence[int],
    steps: int,
    *,
    space: Space = "w",
    c: Float[Tensor, " d"] | Float[Tensor, "n d"] | None = None,
    truncation: Truncation = Truncation(),  # noqa: B008 (immutable)
) -> Float[Tensor, "n num_ws w"]:
    """The style vectors of `interpolate`.

    Raises:
        ValueError: There are fewer than two seeds, or `space` is neither w nor z.
    """
    if len(seeds) < 2 or space not in ("w", "z"):
        raise ValueError(f"interpolation needs two seeds or more and space w or z, not {list(seeds)} and {space!r}")
    z = latents(seeds, generator.z_dim)
    conditions = conditions_for(generator, c, seeds)
    if conditions is not None and c is None:
        conditions = conditions[:1].expand(len(seeds), -1)
    amounts = [step / steps for step in range(steps)]
    if space == "w":
        ends = map_latents(generator, z, conditions, truncation)
        return torch.stack([*(a.lerp(b, t) for a, b in pairwise(ends) for t in amounts), ends[-1]])
    between = torch.stack([*(slerp(a, b, t) for a, b in pairwise(z) for t in amounts), z[-1]])
    if conditions is not None:
        steps_of_c = [a.lerp(b, t) for a, b in pairwise(conditions) for t in amounts]
        conditions = torch.stack([*steps_of_c, conditions[-1]])
    return map_latents(generator, between, conditions, truncation)


def slerp(a: Float[Tensor, " z"], b: Float[Tensor, " z"], t: Tensor | float) -> Float[Tensor, " z"]:
    """Spherical linear interpolation of two latents, which keeps their length typical (Shoemake 1985)."""
    cosine: Tensor = (a / a.norm() @ (b / b.norm())).clamp(-1, 1)
    angle = cosine.acos()
    if angle.sin().abs() < 1e-6:  # the same direction or opposite ones: the arc is not determined
        return a.lerp(b, torch.as_tensor(t, dtype=a.dtype, device=a.device))
    between: Tensor = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()
    return between


@accepts(SamplingOptions)
@frozen_weights()
def save_interpolation(
    model: str | Path,
    seeds: Sequence[int],
    out: str | Path,
    *,
    steps: int = 24,
    space: Space = "w",
    loop: bool = False,
    fps: float = 24.0,
    options: SamplingOptions,
) -> dict[str, Any]:
    """Write an animation (.gif, .apng, .webp, .mp4), a grid with a row per pair of seeds, or a folder of frames.

    Args:
        model: A run folder or a model file.
        seeds: Two or more seeds.
        out: The animation, the picture or the folder.
        steps: Images from one seed to before the next.
        space: "w" interpolates style vectors linearly, "z" latents along the sphere.
        loop: Whether the last seed is followed by the first.
        fps: Frames per second of an animation.

    Raises:
        CheckpointError: There is no model.
        DataError: The generator does not have a class or caption.
        UsageError: The suffix is none of those, the package for .mp4 is not installed, there are fewer than two seeds,
            or the conditions do not match them.
    """
    out = Path(out)
    suffix = destination(out, tuple(dict.fromkeys((*ANIMATIONS, *STILLS))))
    if len(seeds) < 2:
        raise UsageError(f"--seeds {seeds[0]}: interpolation needs two seeds or more, such as 0-3")
    generator = load_optimized(model, options)
    conditions = resolve_conditions(generator, options.classes, options.captions)
    if len(conditions.vectors) not in (1, len(seeds)):
        raise UsageError(
            f"{len(conditions.vectors)} conditions for {len(seeds)} seeds; give one for all, or one for each seed"
        )
    path = [*seeds, seeds[0]] if loop else list(seeds)
    c = None
    if conditions.vectors[0] is not None:
        c = torch.stack([vector for vector in conditions.vectors if vector is not None]).expand(len(seeds), -1)
        c = torch.cat([c, c[:1]]) if loop else c
    truncation = Truncation(options.truncation_psi, options.truncation_cutoff)
    ws = interpolate_styles(generator, path, steps, space=space, c=c, truncation=truncation)
    if loop:
        ws = ws[:-1]  # the first frame follows the last one
    batches = synthesize(generator, ws, noise=options.noise, batch_size=options.batch_size)
    images = (image for batch in batches for image in batch)
    (out.parent if suffix else out).mkdir(parents=True, exist_ok=True)
    metadata = made_by(generator, options.command)
    if not suffix:
        for number, image in enumerate(images):
            picture = to_picture(image, generator.value_range, options.scale or 1)
            save_picture(picture, out / f"frame{number:05d}.png", metadata)
    elif suffix in ANIMATIONS:
        scale = options.scale or scale_for(max(generator.picture_shape[1:]))
        check_size(len(ws), *generator.picture_shape[1:], scale)
        save_animation([to_picture(image, generator.value_range, scale) for image in images], out, fps, metadata)
    else:
        rows = [f"seed {seed}" for seed in path[:-1]]
        if not loop:  # the last seed has one image, and a row of its own
            rows.append(f"seed {path[-1]}")
        save_grid(
            list(images),
            out,
            columns=steps,
            row_labels=rows,
            value_range=generator.value_range,
            scale=options.scale,
            metadata=metadata,
        )
    return {
        "out": str(out),
        "images": len(ws),
        "seeds": path,
        "conditions": conditions.labels(),
        "space": space,
    }
