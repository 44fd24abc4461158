"""The dense head of StyleGAN's discriminators: all features at once, through one hidden layer, to one logit.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958; conditional as in StyleGAN2-ADA,
https://arxiv.org/abs/2006.06676.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.equalized import EqualLinear
from blocks.families import Head, Mapping, Resolution
from blocks.head.projection import Projection
from registry import Slot


class LinearHead(Head, kind="linear"):
    """Flattens the map (channel, row, column) and maps it to one logit, or compares it with the embedded condition.

    Args:
        dim: Channels C of the features.
        resolution: Height and width of the features, in pixels.
        cond_dim: Features of the condition c; with any the logit is a scalar product with its embedding.
        hidden_dim: Features of the hidden layer, and of the embedding; None for no hidden layer and an embedding of C.
        mapping: Embeds the condition; None for a linear embedding.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"hidden_dim": 12, "mapping": {"kind": "mapping", "num_layers": 2}}},
        {"spec": {"hidden_dim": None, "mapping": None}},
    )

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        cond_dim: int = 0,
        *,
        hidden_dim: PositiveInt | None = 512,
        mapping: Slot[Mapping] | None = "mapping",
    ) -> None:
        super().__init__()
        flat = dim * resolution[0] * resolution[1]
        self.hidden = nn.Identity() if hidden_dim is None else EqualLinear(flat, hidden_dim, activation="lrelu")
        self.out = EqualLinear(hidden_dim or flat, (hidden_dim or dim) if cond_dim else 1)
        self.projection: Projection | None = None
        if cond_dim:
            place = {"z_dim": 0, "style_dim": self.out.out_dim, "num_styles": 1, "cond_dim": cond_dim}
            self.projection = Projection(self.out.out_dim, cond_dim, self.fill("mapping", mapping, **place))

    def forward(self, x: Float[Tensor, "b c h w"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b 1"]:
        y: Tensor = self.out(self.hidden(x.flatten(1)))
        return y if self.projection is None else self.projection(y, c)[:, None]
