"""Images from seeds, by the two halves of a style-based generator: seeds to style vectors, style vectors to images.

StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from operator import index
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from assemblies import Generator
from blocks.common.noise import NoiseMode, noise_mode
from blocks.common.weight_cache import frozen_weights
from ganblocks.precision import Precision, apply_precision
from ganblocks.randomness import fork_rng, latents, seed_step
from ganblocks.sampling.conditions import conditions_for
from ganblocks.sampling.load import load

BATCH_SIZE = 32  # images of 64 x 64 pixels; fewer of larger ones
MAPPING_BATCH_SIZE = 1024


class Truncation(NamedTuple):
    """Truncation towards the mean style: `psi` 1 is none, 0 gives the mean; `cutoff` style vectors, None for all."""

    psi: float = 1.0
    cutoff: int | None = None


@torch.no_grad()
@frozen_weights()
def generate(
    model: Generator | str | Path,
    seeds: Sequence[int],
    *,
    c: Float[Tensor, "n d"] | Float[Tensor, " d"] | None = None,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
    noise: NoiseMode | None = None,
    batch_size: int | None = None,
    precision: Precision = "fp32",
) -> Float[Tensor, "n c h w"]:
    """One image per seed, in the generator's `value_range`, on the CPU. A seed's image does not depend on the others.

    Latents are decoded.

    Args:
        model: A generator in eval mode, a run folder or a model file.
        seeds: Random seeds of the latents.
        c: A condition per seed, or one for all; for None a class-conditional generator takes class seed % classes.
        truncation_psi: Values below 1 trade diversity for fidelity.
        truncation_cutoff: Number of style vectors that are truncated; None for all.
        noise: "const", "random" or "none"; None for the constant noise of eval mode. Random noise depends on the seed.
        batch_size: Images per batch; None for as many pixels as 32 images of 64 x 64 have.
        precision: Precision of the synthesis; the mapping always runs in float32. A generator that
            `optimize_for_inference` returned has a precision of its own.

    Raises:
        CheckpointError: `model` names no model.
        RunError: The precision needs a GPU.
        ValueError: The condition does not fit the generator.
    """
    generator = load(model) if isinstance(model, str | Path) else model
    seeds = [index(seed) for seed in seeds]  # of an array or a tensor
    ws = styles(generator, seeds, c=c, truncation=Truncation(truncation_psi, truncation_cutoff))
    batches = synthesize(generator, ws, noise=noise, noise_seeds=seeds, batch_size=batch_size, precision=precision)
    return torch.cat(list(batches))


@torch.no_grad()
def styles(
    generator: Generator,
    seeds: Sequence[int],
    *,
    c: Float[Tensor, "n d"] | Float[Tensor, " d"] | None = None,
    truncation: Truncation = Truncation(),  # noqa: B008 (immutable)
) -> Float[Tensor, "n num_ws w"]:
    """The style vectors of each seed; arguments as in `generate`."""
    return map_latents(generator, latents(seeds, generator.z_dim), conditions_for(generator, c, seeds), truncation)


@torch.no_grad()
def map_latents(
    generator: Generator, z: Float[Tensor, "n z"], c: Float[Tensor, "n d"] | None, truncation: Truncation
) -> Float[Tensor, "n num_ws w"]:
    """The style vectors of latents and conditions, in batches of bounded size."""
    device = next(generator.parameters()).device
    parts = []
    for first in range(0, len(z), MAPPING_BATCH_SIZE):
        part = slice(first, first + MAPPING_BATCH_SIZE)
        condition = None if c is None else c[part].to(device)
        ws = generator.mapping(
            z[part].to(device), condition, truncation_psi=truncation.psi, truncation_cutoff=truncation.cutoff
        )
        parts.append(ws)
    return torch.cat(parts)


@torch.no_grad()
def synthesize(
    generator: Generator,
    ws: Float[Tensor, "n num_ws w"],
    *,
    noise: NoiseMode | None = None,
    noise_seeds: Sequence[int] | None = None,
    batch_size: int | None = None,
    precision: Precision = "fp32",
) -> Iterator[Float[Tensor, "b c h w"]]:
    """The images of style vectors, batch by batch, as float32 on the CPU.

    Args:
        generator: In eval mode.
        ws: Style vectors of each image.
        noise: As in `generate`.
        noise_seeds: Seeds of random noise, one per image; None for 0, 1, ... Independent of the latents' seeds.
        batch_size: As in `generate`.
        precision: As in `generate`.

    Raises:
        RunError: The precision needs a GPU.
    """
    device = next(generator.parameters()).device

    def computing() -> AbstractContextManager[object]:
        optimized = isinstance(generator, Generator) and generator.inference is not None
        return nullcontext() if optimized else apply_precision(precision, device)

    if noise == "random":  # one image at a time, so that its noise depends on its seed alone
        for seed, each in zip(range(len(ws)) if noise_seeds is None else noise_seeds, ws, strict=True):
            with fork_rng(), noise_mode(noise), computing():
                seed_step(seed, 0)  # torch.manual_seed(seed) would repeat the numbers of the latent
                image = generator.synthesis(each[None])
            yield generator.decode(image.float()).cpu()
        return
    for part in torch.split(ws, batch_size or batch_size_of(generator)):
        with noise_mode(noise), computing():
            image = generator.synthesis(part)
        yield generator.decode(image.float()).cpu()


def batch_size_of(generator: Generator) -> int:
    """The default batch size: as many pixels as 32 images of 64 x 64 have, at least one image and at most 32."""
    return default_batch_size(*generator.picture_shape[1:])


def default_batch_size(height: int, width: int) -> int:
    """The default batch size for images of a size in pixels."""
    return max(1, min(BATCH_SIZE, BATCH_SIZE * 64**2 // (height * width)))
