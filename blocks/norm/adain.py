"""Adaptive instance normalisation: each channel gets its mean and its deviation from the style.

Huang and Belongie 2017, https://arxiv.org/abs/1703.06868, section 5; as in StyleSwin and StyleNAT, https://arxiv.org/abs/2211.05770.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from blocks.common.autocast import at_least_float32
from blocks.common.equalized import EqualLinear
from blocks.families import Norm


class AdaIN(Norm, kind="adain"):
    """Adaptive instance norm: gain(w) * (x - mean) / std + bias(w), mean and std over the pixels of each channel.

    The gain is no 1 + gain: it starts around 0, with a spread that the style's length sets.

    Args:
        dim: Channels C of the map.
        style_dim: Features S of the style.
        eps: Added to the variance.
    """

    num_styles = 1

    def __init__(self, dim: int, style_dim: int, *, eps: Annotated[float, Field(gt=0)] = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.style = EqualLinear(style_dim, 2 * dim)

    def forward(self, x: Float[Tensor, "b h w c"], w: Float[Tensor, "b s"] | None = None) -> Float[Tensor, "b h w c"]:
        assert w is not None
        style: Tensor = self.style(w)
        gain, bias = style[:, None, None].chunk(2, dim=-1)
        # sums over rows are far quicker than Welford's running variance, and the rest of the mean keeps them as exact
        wide = at_least_float32(x)
        centred = wide - wide.mean((1, 2), keepdim=True)
        rest = centred.mean((1, 2), keepdim=True)
        variance = centred.square().mean((1, 2), keepdim=True) - rest.square()
        gain = gain * torch.rsqrt(variance + self.eps)
        return torch.addcmul(bias - rest * gain, centred, gain).to(x.dtype)
