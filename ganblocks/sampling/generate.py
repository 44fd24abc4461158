"""Draws images from a generator: by seeds, classes or captions, and beside the training images they are nearest to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from assemblies import CheckpointError, Generator, load_model
from assemblies.generator import condition_input
from blocks.common.noise import NoiseMode, noise_mode
from blocks.common.weight_cache import frozen_weights
from ganblocks.errors import DataError
from ganblocks.precision import Precision, mixed
from ganblocks.randomness import latents, own_randomness
from ganblocks.sampling.grids import destination, save_grid

BATCH_SIZE = 32  # of images of 64 pixels, fewer of larger ones
Truncation = tuple[float, int | None]
"""psi and cutoff: how far from the mean style images may be (1: as far as they are), and how many style vectors that
concerns (None: all)."""


class Told(NamedTuple):
    """Conditions with their names; a generator that takes none has one that is None."""

    names: list[str]
    conditions: list[Float[Tensor, " d"] | None]


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
@frozen_weights()
def generate(
    generator: Generator,
    seeds: Sequence[int],
    *,
    c: Float[Tensor, "n d"] | Float[Tensor, " d"] | None = None,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    noise: NoiseMode | None = None,
    batch_size: int | None = None,
    precision: Precision = "no",
) -> Float[Tensor, "n c h w"]:
    """The image of each seed, the same whatever other seeds are drawn with it.

    Args:
        generator: In eval mode.
        seeds: Numbers that the latents follow from.
        c: A condition for each seed, or one for all; with a conditional generator, None takes class seed % classes.
        truncation_psi: How far from the mean style images may be; 1 for as far as they are.
        truncation_cutoff: How many of the style vectors are truncated; None for all.
        noise: Where layers with noise take it from; None for the constant noise of eval mode. Random noise follows
            from the seed.
        batch_size: Images drawn at once; by default the fewer, the larger they are.
        precision: Mixed precision of the synthesis; styles are always computed in full.
    """
    ws = styles(generator, seeds, c=c, truncation=(truncation_psi, truncation_cutoff))
    options: dict[str, Any] = {"noise": noise, "batch_size": batch_size, "precision": precision}
    return torch.cat(list(synthesize(generator, ws, noise_seeds=seeds, **options)))


@torch.no_grad()
def styles(
    generator: Generator,
    seeds: Sequence[int],
    *,
    c: Float[Tensor, "n d"] | Float[Tensor, " d"] | None = None,
    truncation: Truncation = (1.0, None),
) -> Float[Tensor, "n num_ws w"]:
    """The style vectors of each seed; options as in `draw`."""
    return map_latents(generator, latents(seeds, generator.z_dim), conditions_for(generator, c, seeds), truncation)


@torch.no_grad()
def map_latents(
    generator: Generator, z: Float[Tensor, "n z"], c: Float[Tensor, "n d"] | None, truncation: Truncation
) -> Float[Tensor, "n num_ws w"]:
    """The style vectors of latents and conditions, a bounded number at once."""
    device = next(generator.parameters()).device
    psi, cutoff = truncation
    found = []
    for first in range(0, len(z), 1024):
        part = slice(first, first + 1024)
        told = None if c is None else c[part].to(device)
        found.append(generator.mapping(z[part].to(device), told, truncation_psi=psi, truncation_cutoff=cutoff))
    return torch.cat(found)


@torch.no_grad()
def synthesize(
    generator: Generator,
    ws: Float[Tensor, "n num_ws w"],
    *,
    noise: NoiseMode | None = None,
    noise_seeds: Sequence[int] | None = None,
    batch_size: int | None = None,
    precision: Precision = "no",
) -> Iterator[Float[Tensor, "b c h w"]]:
    """The images of style vectors, a batch after the other, as floating-point numbers on the CPU.

    Args:
        generator: In eval mode.
        ws: The style vectors of each image.
        noise: As in `draw`.
        noise_seeds: What random noise follows from, for each image; its number if None.
        batch_size: As in `draw`.
        precision: As in `draw`.

    Raises:
        RunError: The precision needs another device.
    """
    device = next(generator.parameters()).device
    if noise == "random":
        for number, each in enumerate(ws):
            with own_randomness(), noise_mode(noise), mixed(precision, device):
                torch.manual_seed(noise_seeds[number] if noise_seeds is not None else number)
                image = generator.synthesis(each[None])
            yield image.float().cpu()
        return
    for part in torch.split(ws, batch_size or batch_size_of(generator)):
        with noise_mode(noise), mixed(precision, device):
            image = generator.synthesis(part)
        yield image.float().cpu()


def batch_size_of(generator: Generator) -> int:
    """How many images are drawn at once unless somebody says: as many pixels as 32 images of 64 x 64 have."""
    height, width = generator.resolution
    return max(1, min(BATCH_SIZE, BATCH_SIZE * 64**2 // (height * width)))


def one_hot(classes: Sequence[int] | Int64[Tensor, " n"], cond_dim: int) -> Float[Tensor, "n d"]:
    """The condition that stands for a class."""
    return F.one_hot(torch.as_tensor(classes), cond_dim).float()


def conditions_for(generator: Generator, c: Tensor | None, seeds: Sequence[int]) -> Float[Tensor, "n d"] | None:
    """A condition for each seed from what `draw` takes as `c`."""
    count = len(seeds)
    if not generator.cond_dim:
        if c is not None:
            raise ValueError("the generator takes no condition (its cond_dim is 0)")
        return None
    if c is None and condition_input(generator.spec) == "captions":
        raise ValueError("the generator paints captions: give c, such as generator.condition_of(['a red circle'])[0]")
    if c is None:
        return one_hot([seed % generator.cond_dim for seed in seeds], generator.cond_dim)
    if c.shape[-1] != generator.cond_dim or c.ndim > 2 or (c.ndim == 2 and len(c) != count):
        raise ValueError(
            f"the condition has shape {tuple(c.shape)}, not {(count, generator.cond_dim)} or {(generator.cond_dim,)}"
        )
    return c.expand(count, -1) if c.ndim == 1 else c


def resolve_conditions(generator: Generator, classes: Sequence[int] = (), captions: Sequence[str] = ()) -> Told:
    """The conditions that classes or captions stand for; without any, one None, which leaves the class to the seed.

    Raises:
        DataError: The generator does not know them, or cannot do without.
    """
    condition_input = getattr(
        getattr(generator, "condition", None), "condition_input", "classes" if generator.cond_dim else None
    )
    if captions and classes:
        raise DataError("give either classes or captions; no generator takes both")
    if captions and condition_input != "captions":
        known = f"classes 0 to {generator.cond_dim - 1}, no captions" if condition_input else "no captions"
        raise DataError(f"the generator knows {known}; {captions[0]!r} cannot be drawn")
    if condition_input == "captions":
        if not captions:
            raise DataError("the generator paints captions: give one, such as --caption 'a red circle'")
        return Told(list(captions), list(generator.condition_of(captions)))
    if lost := [each for each in classes if not 0 <= each < generator.cond_dim]:
        known = f"classes 0 to {generator.cond_dim - 1}" if generator.cond_dim else "no classes"
        raise DataError(f"the generator knows {known}; class {lost[0]} cannot be drawn")
    if not classes:
        return Told([""], [None])
    return Told([f"class {each}" for each in classes], list(generator.condition_of(classes)))


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


@frozen_weights()
def sample_files(
    model: str | Path,
    seeds: Sequence[int],
    out: str | Path,
    *,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    classes: Sequence[int] = (),
    captions: Sequence[str] = (),
    noise: NoiseMode | None = None,
    batch_size: int | None = None,
    precision: Precision = "no",
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Draw seeds into a picture, if `out` has a suffix, or into a folder, a PNG each; gives back what was written.

    Several classes or captions make a grid with a row for each of them, and a column for each seed.

    Raises:
        CheckpointError: There is no model.
        DataError: A class or caption is none of the generator's.
        UsageError: The suffix is none of a picture's.
    """
    out = Path(out)
    suffix = destination(out)
    generator = load_generator(model, device)
    told = resolve_conditions(generator, classes, captions)
    options: dict[str, Any] = {"truncation_psi": truncation_psi, "truncation_cutoff": truncation_cutoff, "noise": noise}
    options |= {"batch_size": batch_size, "precision": precision}
    at_once = batch_size or batch_size_of(generator)
    parts = [seeds[first : first + at_once] for first in range(0, len(seeds), at_once)]
    (out.parent if suffix else out).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, c in enumerate(told.conditions):
        for part in parts:
            images = generate(generator, part, c=c, **options)
            if suffix:
                rows.append(images)
                continue
            prefix = f"condition{number}-" if len(told.conditions) > 1 else ""
            for seed, image in zip(part, images, strict=True):
                save_grid(image[None], out / f"{prefix}seed{seed:04d}.png", value_range=generator.value_range)
    if suffix:
        layout: dict[str, Any] = {}
        if len(told.conditions) > 1:
            layout = {"columns": len(seeds), "row_labels": told.names}
        save_grid(torch.cat(rows), out, value_range=generator.value_range, **layout)
    return {
        "out": str(out),
        "images": len(seeds) * len(told.conditions),
        "seeds": list(seeds),
        "told": [name for name in told.names if name],
    }
