"""A generator prepared for making images: weights cast once, and its forward pass replayed as a CUDA graph."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import torch
from torch import Tensor, nn

from assemblies.inference.captured import Captured
from assemblies.inference.cast import cast_weights
from assemblies.inference.precision import Precision, computing_in

if TYPE_CHECKING:
    from assemblies.generator import Generator

__all__ = ["Captured", "Inference", "Precision", "computing_in", "optimized"]


class Inference(NamedTuple):
    """What `optimize_for_inference` did to a generator.

    Args:
        precision: Of all matrix products and convolutions of the synthesis.
        cast: Names of the parameters and buffers that are stored in 16 bits.
        captures: Whether forward passes are captured in CUDA graphs.
    """

    precision: Precision
    cast: tuple[str, ...]
    captures: bool


def optimized(generator: Generator, batch_size: int | None, precision: Precision) -> Generator:
    """The copy that `Generator.optimize_for_inference` returns."""
    if precision not in get_args(Precision):
        raise ValueError(f"unknown precision {precision!r}; valid: {', '.join(get_args(Precision))}")
    device = next(generator.parameters()).device
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("fp16 needs a GPU; choose precision bf16 or fp32 on a CPU")
    fast, on_gpu = _copy(generator), device.type == "cuda"
    with torch.no_grad():
        names = cast_weights(fast.synthesis, fast.mapping(*_inputs(fast, batch_size or 1)), precision)
        fast.mapping.forward = Captured(fast.mapping.forward, "mapping", "fp32", on_gpu)
        fast.synthesis.forward = Captured(fast.synthesis.forward, "synthesis", precision, on_gpu)
        fast.inference = Inference(precision, tuple(f"synthesis.{name}" for name in names), on_gpu)
        if batch_size is not None and on_gpu:
            for _ in range(2):  # the second call is captured
                fast(*_inputs(fast, batch_size))
    return fast


def _copy(generator: Generator) -> Generator:
    """A copy in eval mode that shares the memory of the weights; its weights need no gradients."""
    shared: dict[int, Any] = {id(each): each for each in generator.buffers()}
    shared |= {id(each): nn.Parameter(each.detach(), requires_grad=False) for each in generator.parameters()}
    return copy.deepcopy(generator, shared).eval()


def _inputs(generator: Generator, batch_size: int) -> tuple[Tensor, Tensor | None]:
    device = next(generator.parameters()).device
    z = torch.zeros(batch_size, generator.z_dim, device=device)
    z[:, ::2] = 1  # zeros have no direction to normalise
    return z, torch.zeros(batch_size, generator.cond_dim, device=device) if generator.cond_dim else None
