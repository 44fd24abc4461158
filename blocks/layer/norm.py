"""A norm as a layer: the last step of ViTGAN's generator before its image head.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589, section 3.3.
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from blocks.common.shapes import check_nchw, check_styles
from blocks.families import Layer, Norm, rows, to_nchw, to_nhwc
from registry import Slot


class Normalize(Layer, kind="norm"):
    """Applies a norm to the features.

    Args:
        dim: Channels C of the map.
        style_dim: Features S of the style; None if there are no styles.
        norm: The norm.
    """

    examples: ClassVar = ({"spec": {"norm": "sln"}},)

    def __init__(self, dim: int, style_dim: int | None = None, *, norm: Slot[Norm] = "layer-norm") -> None:
        super().__init__()
        self.dim, self.style_dim = dim, style_dim or 0
        self.norm = self.fill("norm", norm, dim=dim, style_dim=style_dim)
        self.num_styles = self.norm.num_styles

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        check_nchw(self, x, self.dim)
        if self.num_styles:
            ws = check_styles(self, ws, self.num_styles, self.style_dim, x)
        (w,) = rows(1, ws if self.num_styles else None)
        return to_nchw(self.norm(to_nhwc(x), w))
