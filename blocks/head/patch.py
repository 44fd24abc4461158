"""A patch head: one logit per position of the map, so that each logit depends on a patch of the image.

pix2pix's PatchGAN, Isola et al. 2017, https://arxiv.org/abs/1611.07004, section 3.2.2.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from blocks.common.equalized import EqualConv2d
from blocks.common.shapes import check_nchw
from blocks.families import Head
from blocks.head.projection import Projection, to_logits


class PatchHead(Head, kind="patch"):
    """One logit per pixel of the map, by a 1x1 convolution or a scalar product with the condition.

    Args:
        dim: Channels C of the features.
        cond_dim: Features of the condition c; 0 for no condition. With one, each logit is a scalar product with its
            embedding.
    """

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {}},)

    def __init__(self, dim: int, cond_dim: int = 0) -> None:
        super().__init__()
        self.out = EqualConv2d(dim, dim if cond_dim else 1, 1)
        self.projection = Projection(dim, cond_dim) if cond_dim else None

    def forward(self, x: Float[Tensor, "b c h w"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b n"]:
        check_nchw(self, x, self.out.in_dim)
        y: Tensor = self.out(x).flatten(2)  # b d n
        return to_logits(self, y.mT, c, self.projection)
