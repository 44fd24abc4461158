"""Draws images from a generator: by seeds, between seeds, and beside the training images they are nearest to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from assemblies import CheckpointError, Generator, load_model
from workbench.errors import DataError
from workbench.pictures import save_grid
from workbench.randomness import latents

BATCH_SIZE = 32


def load_generator(source: str | Path, device: str | torch.device = "cpu") -> Generator:
    """The generator in a model file, or in a run folder.

    Raises:
        CheckpointError: There is none.
    """
    path = Path(source)
    if path.is_dir():
        if not (path / "model.safetensors").is_file():
            raise CheckpointError(
                f"{path} has no model.safetensors: it is no run folder, or its training has saved nothing yet"
            )
        path = path / "model.safetensors"
    return load_model(path, device)


@torch.no_grad()
def draw(
    generator: Generator,
    seeds: Sequence[int],
    *,
    c: Float[Tensor, "n d"] | Float[Tensor, " d"] | None = None,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> Float[Tensor, "n c h w"]:
    """The image of each seed, the same whatever other seeds are drawn with it.

    Args:
        generator: In eval mode.
        seeds: Numbers that the latents follow from.
        c: A condition for each seed, or one for all; with a conditional generator, None takes class seed % classes.
        truncation_psi: How far from the mean style images may be; 1 for as far as they are.
        truncation_cutoff: How many of the style vectors are truncated; None for all.
        batch_size: Images drawn at once.
    """
    device = next(generator.parameters()).device
    conditions = _conditions(generator, c, seeds)
    images = []
    for first in range(0, len(seeds), batch_size):
        part = slice(first, first + batch_size)
        z = latents(seeds[part], generator.z_dim).to(device)
        told = None if conditions is None else conditions[part].to(device)
        image = generator(z, told, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        images.append(image.float().cpu())
    return torch.cat(images)


def one_hot(classes: Sequence[int] | Int64[Tensor, " n"], cond_dim: int) -> Float[Tensor, "n d"]:
    """The condition that stands for a class."""
    return F.one_hot(torch.as_tensor(classes), cond_dim).float()


@torch.no_grad()
def interpolate(
    generator: Generator,
    seeds: Sequence[int],
    steps: int = 8,
    *,
    space: str = "w",
    c: Float[Tensor, " d"] | None = None,
    truncation_psi: float = 1.0,
) -> Float[Tensor, "n c h w"]:
    """Images on the way from seed to seed, `steps` for each stretch, the last seed's image at the end.

    Args:
        generator: In eval mode.
        seeds: The stations, two at least.
        steps: Images from one station to before the next.
        space: "w" goes straight between style vectors, "z" along the sphere between latents.
        c: The condition of all images; with a conditional generator, None takes the class of the first seed.
        truncation_psi: As in `draw`.
    """
    if len(seeds) < 2 or space not in ("w", "z"):
        raise ValueError(
            f"interpolation goes between two seeds or more, in space w or z; not {list(seeds)} in {space!r}"
        )
    device = next(generator.parameters()).device
    stations = latents(seeds, generator.z_dim).to(device)
    conditions = _conditions(generator, c, seeds[:1])

    def styles(z: Tensor) -> Tensor:
        told = None if conditions is None else conditions.to(device).expand(len(z), -1)
        ws: Tensor = generator.mapping(z, told, truncation_psi=truncation_psi)
        return ws

    amounts = torch.arange(steps, device=device) / steps
    if space == "z":
        z = [slerp(a, b, t) for a, b in pairwise(stations) for t in amounts]
        ws = styles(torch.stack([*z, stations[-1]]))
    else:
        ends = styles(stations)
        ws = torch.stack([*(a.lerp(b, t) for a, b in pairwise(ends) for t in amounts), ends[-1]])
    return torch.cat([generator.synthesis(part).float().cpu() for part in torch.split(ws, BATCH_SIZE)])


def slerp(a: Float[Tensor, " z"], b: Float[Tensor, " z"], t: Tensor | float) -> Float[Tensor, " z"]:
    """Between two latents along the arc, so that those on the way are as long as latents are (Shoemake 1985)."""
    cosine: Tensor = (a / a.norm() @ (b / b.norm())).clamp(-1, 1)
    angle = cosine.acos()
    if angle.sin().abs() < 1e-6:  # the same direction, or opposite: no arc is determined
        return a.lerp(b, torch.as_tensor(t, dtype=a.dtype, device=a.device))
    between: Tensor = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()
    return between


def nearest(
    images: Float[Tensor, "n c h w"], references: Float[Tensor, "m c h w"], chunk: int = 256
) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"]]:
    """For each image the index of the nearest reference, and how far it is: root mean square difference of pixels."""
    flat = references.flatten(1)
    found = [torch.cdist(part.flatten(1), flat).min(dim=1) for part in torch.split(images, chunk)]
    distances = torch.cat([each.values for each in found]) / flat.shape[1] ** 0.5
    return torch.cat([each.indices for each in found]), distances


def beside_nearest(images: Float[Tensor, "n c h w"], references: Float[Tensor, "m c h w"]) -> Float[Tensor, "2n c h w"]:
    """Images, and below each the reference nearest to it: a strip for `save_grid(..., columns=len(images))`."""
    return torch.cat([images, references[nearest(images, references)[0]]])


def _conditions(generator: Generator, c: Tensor | None, seeds: Sequence[int]) -> Tensor | None:
    count = len(seeds)
    if not generator.cond_dim:
        if c is not None:
            raise ValueError("the generator takes no condition (its cond_dim is 0)")
        return None
    if c is None:
        return one_hot([seed % generator.cond_dim for seed in seeds], generator.cond_dim)
    if c.shape[-1] != generator.cond_dim or c.ndim > 2 or (c.ndim == 2 and len(c) != count):
        raise ValueError(
            f"the condition has shape {tuple(c.shape)}, not {(count, generator.cond_dim)} or {(generator.cond_dim,)}"
        )
    return c.expand(count, -1) if c.ndim == 1 else c


def sample_files(
    model: str | Path,
    seeds: Sequence[int],
    out: str | Path,
    *,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    chosen_class: int | None = None,
    device: str | torch.device = "cpu",
) -> str:
    """Draw seeds into a picture, if `out` has a suffix, or into a folder, a PNG each; gives back what was written.

    Raises:
        CheckpointError: There is no model.
        DataError: The class is not one of the generator's.
    """
    generator = load_generator(model, device)
    if chosen_class is not None and not 0 <= chosen_class < generator.cond_dim:
        classes = f"classes 0 to {generator.cond_dim - 1}" if generator.cond_dim else "no classes"
        raise DataError(f"the generator knows {classes}; class {chosen_class} cannot be drawn")
    c = None if chosen_class is None else one_hot([chosen_class], generator.cond_dim)[0]
    images = draw(generator, seeds, c=c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
    out = Path(out)
    if out.suffix:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_grid(images, out, value_range=generator.value_range)
        return f"{len(seeds)} images as {out}"
    out.mkdir(parents=True, exist_ok=True)
    for seed, image in zip(seeds, images, strict=True):
        save_grid(image[None], out / f"seed{seed:04d}.png", value_range=generator.value_range)
    return f"{len(seeds)} images into {out}"
