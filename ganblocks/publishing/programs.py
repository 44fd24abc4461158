"""The two halves of a generator as modules that take and return tensors only, for export.

A generator draws its per-pixel noise itself; an exported program takes the noise as inputs, so that it is a function of
its inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from assemblies import Generator
from blocks.common.noise import Noise


class Program(NamedTuple):
    """A module with the inputs that it is exported with.

    Args:
        module: Takes the inputs in their order.
        inputs: Example tensors of batch size 2, by name.
        batched: Names of the inputs whose first dimension is the batch size.
        output: The output's name.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    batched: frozenset[str]
    output: str

    def sample(self, batch: int, seed: int = 0) -> dict[str, Tensor]:
        """Random inputs of another batch size."""
        random = torch.Generator().manual_seed(seed)
        return {
            name: torch.randn(batch, *example.shape[1:], generator=random) if name in self.batched else example
            for name, example in self.inputs.items()
        }


class MappingProgram(nn.Module):
    """z [B,z_dim], c [B,cond_dim] if conditional, truncation_psi [] -> ws [B,num_ws,w_dim]."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.mapping = generator.mapping
        self.conditional = generator.cond_dim > 0

    def forward(self, *inputs: Tensor) -> Float[Tensor, "b n s"]:
        z, c, psi = inputs if self.conditional else (inputs[0], None, inputs[1])
        mean: Tensor = self.mapping(z, c, truncation_psi=0.0)
        ws: Tensor = self.mapping(z, c)
        return mean + psi * (ws - mean)


class SynthesisProgram(nn.Module):
    """ws [B,num_ws,w_dim] and a noise map [B,H,W] for each layer that adds noise -> image [B,K,H,W], decoded."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.synthesis, self.decoder = generator.synthesis, getattr(generator, "decoder", None)
        modules = generator.synthesis.named_modules()
        self.buffers_of_noise = [f"{name}.const" for name, module in modules if isinstance(module, Noise)]

    def forward(self, ws: Float[Tensor, "b n s"], *noise: Tensor) -> Float[Tensor, "b k h w"]:
        buffers = dict(zip(self.buffers_of_noise, noise, strict=True))
        image: Tensor = torch.func.functional_call(self.synthesis, buffers, (ws,)) if noise else self.synthesis(ws)
        return image if self.decoder is None else self.decoder(image)


def programs(generator: Generator) -> Mapping[str, Program]:
    """The programs `mapping` and `synthesis` of a generator in eval mode."""
    latents = {"z": torch.randn(2, generator.z_dim)}
    if generator.cond_dim:
        latents["c"] = torch.randn(2, generator.cond_dim)
    styles = {"ws": torch.randn(2, generator.num_ws, generator.w_dim)}
    synthesis = SynthesisProgram(generator)
    buffers = dict(generator.synthesis.named_buffers())
    for index, name in enumerate(synthesis.buffers_of_noise):
        styles[f"noise_{index}"] = torch.randn(2, *buffers[name].shape)
    return {
        "mapping": Program(
            MappingProgram(generator), latents | {"truncation_psi": torch.tensor(0.7)}, frozenset(latents), "ws"
        ),
        "synthesis": Program(synthesis, styles, frozenset(styles), "image"),
    }
