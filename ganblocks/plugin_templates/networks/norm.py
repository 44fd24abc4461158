"""Example norm: scales each pixel to unit root mean square, with a gain that is computed from the style.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.shapes import check_nhwc, check_style
from blocks.families import Norm


class Example(Norm, kind="example"):
    """(1 + gain(w)) * x / sqrt(mean(x^2) + eps), the mean over the channels of each pixel.

    Args:
        dim: Channels C of the map.
        style_dim: Features S of the style.
        eps: Added to the mean square.
    """

    num_styles = 1

    def __init__(self, dim: int, style_dim: int, *, eps: Annotated[float, Field(gt=0)] = 1e-6) -> None:
        super().__init__()
        self.dim, self.style_dim, self.eps = dim, style_dim, eps
        self.gain = nn.Linear(style_dim, dim)

    def forward(self, x: Float[Tensor, "b h w c"], w: Float[Tensor, "b s"] | None = None) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        gain: Tensor = 1 + self.gain(check_style(self, w, self.style_dim, x))
        return gain[:, None, None] * F.rms_norm(x, (self.dim,), eps=self.eps)
