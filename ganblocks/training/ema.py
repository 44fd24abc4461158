"""Moving averages of the generator's weights: exponential (EMA), with its half-life in images, and power-function.

EMA: Karras et al. 2018, https://arxiv.org/abs/1710.10196, section 4.1; the ramp-up: StyleGAN2-ADA, Karras et al. 2020,
https://arxiv.org/abs/2006.06676. Power-function averages: EDM2, Karras et al. 2024, https://arxiv.org/abs/2312.02696,
section 3.1.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import TypeVar

import numpy as np
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


def power_decay(sigma_rel: float, step: int) -> float:
    """Decay of a power-function average in the step numbered from 1: (1 - 1/step)^(gamma + 1)."""
    return float((1 - 1 / step) ** (power_gamma(sigma_rel) + 1))


@cache
def power_gamma(sigma_rel: float) -> float:
    """The exponent gamma of weights t^gamma whose standard deviation is `sigma_rel` of the training's length.

    sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)); below 0.288 there is one positive solution.
    """
    s = sigma_rel**-2
    return float(max(np.roots([1, 7, 16 - s, 12 - s]).real))


@torch.no_grad()
def update(target: nn.Module, source: nn.Module, beta: float) -> None:
    """target <- beta target + (1 - beta) source for parameters; buffers, such as w_avg, are copied."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), 1 - beta)
    if buffers := list(target.buffers()):
        torch._foreach_copy_(buffers, list(source.buffers()))
