"""Adaptive instance normalisation: the style sets the mean and the standard deviation of each channel.

Huang and Belongie 2017, https://arxiv.org/abs/1703.06868, section 5; this form: StyleSwin and StyleNAT, https://arxiv.org/abs/2211.05770.
"""

from __future__ import annotations

from typing import Annotated, cast

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from blocks.common.autocast import at_least_float32
from blocks.common.equalized import EqualLinear
from blocks.common.shapes import check_nhwc, check_style
from blocks.families import Norm
from blocks.norm.moments import channel_moments, reads_once
from blocks.ops.bias_act import bias_act


class AdaIN(Norm, kind="adain"):
    """Adaptive instance norm: gain(w) * (x - mean) / std + bias(w), mean and std over the pixels of each channel.

    Nothing is added to gain(w): at initialisation it is distributed around 0, with a spread set by the norm of w.

    Args:
        dim: Channels C of the map.
        style_dim: Features S of the style.
        eps: Added to the variance.
    """

    num_styles = 1

    def __init__(self, dim: int, style_dim: int, *, eps: Annotated[float, Field(gt=0)] = 1e-5) -> None:
        super().__init__()
        self.dim, self.style_dim, self.eps = dim, style_dim, eps
        self.style = EqualLinear(style_dim, 2 * dim)
        self.scale_and_shift = bias_act.bind()

    def forward(self, x: Float[Tensor, "b h w c"], w: Float[Tensor, "b s"] | None = None) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        style: Tensor = self.style(check_style(self, w, self.style_dim, x))
        gain, bias = style[:, None, None].chunk(2, dim=-1)
        if reads_once(x):
            mean, variance = channel_moments(x)
            gain = gain[:, 0, 0] * torch.rsqrt(variance + self.eps)
            shift = bias[:, 0, 0] - mean * gain
            return cast(Tensor, self.scale_and_shift(x, shift, scale=gain, dim=-1))
        # two plain means are much faster than torch.var_mean; subtracting the residual mean makes them as accurate
        wide = at_least_float32(x)
        centred = wide - wide.mean((1, 2), keepdim=True)
        residual_mean = centred.mean((1, 2), keepdim=True)
        variance = centred.square().mean((1, 2), keepdim=True) - residual_mean.square()
        gain = gain * torch.rsqrt(variance + self.eps)
        return torch.addcmul(bias - residual_mean * gain, centred, gain).to(x.dtype)
