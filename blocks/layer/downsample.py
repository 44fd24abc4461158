"""Downsampling by 2.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, appendix B.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from blocks.common.resample import BINOMIAL, Downsample2d, Filter
from blocks.common.shapes import check_nchw
from blocks.families import Layer, Resolution
from registry import incompatible


class Downsample(Layer, kind="downsample"):
    """Halves height and width, channel by channel.

    Args:
        resolution: Height and width of the input, at least 2 each.
        method: "fir" filters by `taps` and keeps every second pixel, H // 2 of H; "average" is the mean of 2x2
            pixels and needs even sizes.
        taps: The filter of "fir", on each axis; it is divided by its sum.
        kernel: Kernel of the upfirdn2d op; "auto" takes the best one that supports each call, "tune" the fastest.

    Raises:
        IncompatibleError: The map is too small, or of odd size with method average.
    """

    examples: ClassVar = (
        {"spec": {"method": "fir"}},
        {"spec": {"taps": [1.0, 2.0, 1.0]}},
        {"spec": {"method": "average"}},
    )

    def __init__(
        self,
        resolution: Resolution,
        *,
        method: Literal["fir", "average"] = "fir",
        taps: Filter = BINOMIAL,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        height, width = resolution
        if min(resolution) < 2:
            raise incompatible((), f"a map of {height}x{width} pixels cannot be halved; remove this step")
        if method == "average" and (height % 2 or width % 2):
            raise incompatible("method", f"{height}x{width} pixels do not split into squares of 2x2; take method: fir")
        self.resample = Downsample2d(taps=taps, kernel=kernel) if method == "fir" else nn.AvgPool2d(2)

    def forward(self, x: Float[Tensor, "b c h w"], ws: Tensor | None = None) -> Float[Tensor, "b c i j"]:
        check_nchw(self, x)
        y: Tensor = self.resample(x)
        return y
