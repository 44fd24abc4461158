"""Batches of generated images as metrics take them: quantised, on the generator's device, from seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from assemblies import Generator
from blocks.common.noise import NoiseMode, noise_mode
from ganblocks.errors import DataError
from ganblocks.metrics.conditions import Conditions
from ganblocks.metrics.protocols import Protocol, Quantisation
from ganblocks.pixels import to_symmetric
from ganblocks.precision import Precision, apply_precision
from ganblocks.randomness import fork_rng, latents, seed_step
from ganblocks.sampling.generate import Truncation, map_latents


def quantise(
    images: Float[Tensor, "b c h w"], value_range: str, quantisation: Quantisation
) -> UInt8[Tensor, "b c h w"]:
    """Images of a value range as bytes; see `Protocol`.

    Raises:
        ValueError: There is no such range.
    """
    values = to_symmetric(images.detach().float(), value_range)
    if quantisation == "floor":
        levels = (values + 1) * 255 / 2
    else:
        levels = (values.bfloat16() if quantisation == "round-bfloat16" else values) * 127.5 + 128
    return levels.clamp(0, 255).to(torch.uint8)


class Batch:
    """Images of some seeds; see `blocks.families.GeneratedBatch`. `fast` is the generator optimised for inference."""

    def __init__(
        self,
        generator: Generator,
        fast: Generator,
        seeds: Sequence[int],
        c: Float[Tensor, "b d"] | None,
        captions: Sequence[str] | None,
        protocol: Protocol,
    ) -> None:
        self.generator, self.fast, self.seeds, self.c, self.captions = generator, fast, seeds, c, captions
        self.protocol = protocol
        self.device = next(generator.parameters()).device
        self.truncation = Truncation(protocol.truncation_psi, protocol.truncation_cutoff)
        self.finite = torch.ones(len(seeds), dtype=torch.bool, device=self.device)  # images without infinity and NaN

    @cached_property
    def z(self) -> Float[Tensor, "b z"]:
        return latents(self.seeds, self.generator.z_dim).to(self.device)

    @cached_property
    def images(self) -> UInt8[Tensor, "b 3 h w"]:
        images = self._synthesize(self.fast, self.styles(self.z), self.protocol.noise)
        return to_rgb(quantise(images, self.generator.value_range, self.protocol.quantisation))

    def styles(self, z: Float[Tensor, "b z"]) -> Float[Tensor, "b n w"]:
        return map_latents(self.fast, z, self.c, self.truncation)

    def exact_images(self, ws: Float[Tensor, "b n w"]) -> Float[Tensor, "b 3 h w"]:
        with apply_precision("fp32", self.device):
            images = self._synthesize(self.generator, ws, "const")
        return to_rgb(to_symmetric(images, self.generator.value_range) * 127.5 + 127.5)

    def _synthesize(self, generator: Generator, ws: Tensor, noise: NoiseMode) -> Tensor:
        with ExitStack() as stack:
            if noise == "random":  # noise depends on the seeds of the whole batch
                stack.enter_context(fork_rng())
                seed_step(self.seeds[0], 0)
            stack.enter_context(noise_mode(noise))
            images: Tensor = generator.decode(generator.synthesis(ws).float())
        self.finite &= images.isfinite().flatten(1).all(dim=1)  # bytes would hide it
        return images


def generated_batches(
    generator: Generator,
    conditions: Conditions,
    indices: range,
    protocol: Protocol,
    *,
    seed: int,
    batch_size: int,
    precision: Precision,
) -> Iterator[Batch]:
    """The images of these indices, batch by batch; the seed of an image is `seed` plus its index."""
    fast = generator.optimize_for_inference(precision=precision)
    for first in range(0, len(indices), batch_size):
        part = indices[first : first + batch_size]
        c, captions = conditions.of(part)
        yield Batch(generator, fast, [seed + index for index in part], c, captions, protocol)


def to_rgb(images: Tensor) -> Tensor:
    """Images of one or three channels as RGB.

    Raises:
        DataError: They have another number of channels.
    """
    if images.shape[1] not in (1, 3):
        raise DataError(f"metrics compare grey or RGB images; these have {images.shape[1]} channels")
    return images.expand(-1, 3, -1, -1)
