"""Example layer: a depthwise convolution with a residual connection.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.shapes import check_nchw
from blocks.families import Layer, OddInt


class Example(Layer, kind="example"):
    """x + silu(depthwise convolution of x), with zero padding.

    Args:
        dim: Channels C of the map.
        kernel_size: Height and width of the convolution's window, in pixels.
    """

    def __init__(self, dim: int, *, kernel_size: OddInt = 3) -> None:
        super().__init__()
        self.dim = dim
        self.conv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        check_nchw(self, x, self.dim)
        return x + F.silu(self.conv(x))
