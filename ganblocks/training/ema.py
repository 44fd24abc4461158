"""Exponential moving average (EMA) of the generator's weights, with its half-life in images.

Karras et al. 2018, https://arxiv.org/abs/1710.10196, section 4.1; the ramp-up: StyleGAN2-ADA,
Karras et al. 2020, https://arxiv.org/abs/2006.06676.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from assemblies import EMA
from blocks.families import value_at

N = TypeVar("N", bound=nn.Module)


def ema_copy(network: N) -> N:
    """A copy of a network that holds the average: in eval mode, without gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def decay(ema: EMA, batch_size: int, images: int) -> float:
    """Decay of the average in one step: 0.5^(batch_size / half-life), half-life at most `ramp_up` x images.

    It is 0, which copies the weights, up to `start_kimg`.
    """
    if images < ema.start_kimg * 1000:
        return 0.0
    half_life = value_at(ema.half_life_kimg, images) * 1000
    if ema.ramp_up is not None:
        half_life = min(half_life, images * ema.ramp_up)
    return float(0.5 ** (batch_size / max(half_life, 1e-8)))


@torch.no_grad()
def update(target: nn.Module, source: nn.Module, beta: float) -> None:
    """target <- beta target + (1 - beta) source for parameters; buffers, such as w_avg, are copied."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), 1 - beta)
    if buffers := list(target.buffers()):
        torch._foreach_copy_(buffers, list(source.buffers()))
