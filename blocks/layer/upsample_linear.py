"""StyleNAT's upsampling layer: bilinear interpolation, LayerNorm, a linear projection and a position encoding.

StyleNAT, Walton et al. 2022, https://arxiv.org/abs/2211.05770; it is that of StyleSwin, Zhang et al. 2021,
https://arxiv.org/abs/2112.10762, sections 3.1 and 3.4.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.linear import linear
from blocks.common.position import SinusoidalGrid
from blocks.common.shapes import check_nchw, check_resolution
from blocks.families import Layer, Resolution, to_nchw, to_nhwc
from registry import incompatible


class UpsampleLinear(Layer, kind="upsample-linear"):
    """Bilinear upsampling by 2, LayerNorm, a linear layer to `dim` channels, plus alpha times a sinusoidal grid.

    Args:
        in_dim: Channels of the input.
        resolution: Height and width of the input, in pixels.
        dim: Channels of the output, a multiple of 4 and at least 8; null for `in_dim`.
        equalized: Whether the linear layer uses equalised learning rate.

    Raises:
        IncompatibleError: `dim` is below 8 or not a multiple of 4.
    """

    examples: ClassVar = (
        {"spec": {"dim": 8}, "context": {"dim": 6, "in_dim": 6}},
        {"spec": {"dim": 12, "equalized": True}, "context": {"resolution": (5, 7)}},
    )

    def __init__(
        self, in_dim: int, resolution: Resolution, *, dim: PositiveInt | None = None, equalized: bool = False
    ) -> None:
        super().__init__()
        dim = in_dim if dim is None else dim
        if dim < 8 or dim % 4:
            raise incompatible(
                "dim",
                f"{dim} channels do not split into sines and cosines for two axes; take a multiple of 4, at least 8",
            )
        self.in_dim, self.resolution = in_dim, resolution
        height, width = resolution
        self.norm = nn.LayerNorm(in_dim)
        self.linear = linear(in_dim, dim, bias=False, equalized=equalized)
        self.position = SinusoidalGrid(dim, (2 * height, 2 * width))
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, x: Float[Tensor, "b c h w"], ws: Tensor | None = None) -> Float[Tensor, "b d i j"]:
        check_nchw(self, x, self.in_dim)
        check_resolution(self, x.shape[2], x.shape[3], self.resolution)
        upsampled = F.interpolate(x, scale_factor=2, mode="bilinear")
        y = self.linear(self.norm(to_nhwc(upsampled)))
        return to_nchw(y + (self.alpha * self.position()).to(y.dtype))
