"""Mean and variance of the channels of a map, with little memory traffic on a GPU."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.common.autocast import no_autocast


def reads_once(x: Tensor) -> bool:
    """Whether norms use `channel_moments` and the op bias_act: for inference on a GPU, whose cost is memory traffic."""
    return x.device.type == "cuda" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def channel_moments(x: Float[Tensor, "b h w c"]) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
    """Mean and variance of each channel over the pixels, in at least float32, without a copy of x in float32."""
    if x.dtype in (torch.float32, torch.float64):
        variance, mean = torch.var_mean(x, (1, 2), correction=0)
        return mean, variance
    with no_autocast(x):  # it would copy x in float32
        mean = x.mean((1, 2), dtype=torch.float32)
        squares = torch.linalg.vector_norm(x, dim=(1, 2), dtype=torch.float32).square() / (x.shape[1] * x.shape[2])
    # the rounding error of 16-bit values is larger than that of the difference
    return mean, (squares - mean.square()).clamp(min=0)
