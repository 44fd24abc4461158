"""Upsampling by 2.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, appendix B.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from blocks.common.resample import BINOMIAL, Filter, Upsample2d
from blocks.common.shapes import check_nchw
from blocks.families import Layer


class Upsample(Layer, kind="upsample"):
    """Doubles height and width, channel by channel.

    Args:
        method: "fir" inserts zeros and filters by `taps` with zero padding; "bilinear" interpolates and repeats the
            border.
        taps: The filter of "fir", on each axis; it is divided by its sum.
        kernel: Kernel of the upfirdn2d op; "auto" takes the best one that supports each call, "tune" the fastest.
    """

    examples: ClassVar = (
        {"spec": {"method": "fir"}},
        {"spec": {"taps": [1.0, 2.0, 1.0]}},
        {"spec": {"method": "bilinear"}},
    )

    def __init__(
        self, *, method: Literal["fir", "bilinear"] = "fir", taps: Filter = BINOMIAL, kernel: str = "auto"
    ) -> None:
        super().__init__()
        fir = method == "fir"
        self.resample = Upsample2d(taps=taps, kernel=kernel) if fir else nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, x: Float[Tensor, "b c h w"], ws: Tensor | None = None) -> Float[Tensor, "b c i j"]:
        check_nchw(self, x)
        y: Tensor = self.resample(x)
        return y
