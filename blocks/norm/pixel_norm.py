"""Pixel normalisation: scales the features of each pixel to unit root mean square.

ProGAN, Karras et al. 2017, https://arxiv.org/abs/1710.10196, section 4.2.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from blocks.common.autocast import at_least_float32
from blocks.common.shapes import check_nhwc
from blocks.families import Norm


class PixelNorm(Norm, kind="pixel-norm"):
    """Pixel norm: x / RMS(x) over the channels of each pixel, without learned weights.

    Args:
        eps: Added to the mean square.
    """

    def __init__(self, *, eps: Annotated[float, Field(gt=0)] = 1e-8) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Float[Tensor, "b h w c"], w: Float[Tensor, "b s"] | None = None) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x)
        wide = at_least_float32(x)
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)
