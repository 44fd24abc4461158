"""The dense head of StyleGAN discriminators: the flattened features through one hidden layer to one logit.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958; conditional as in StyleGAN2-ADA,
https://arxiv.org/abs/2006.06676.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.equalized import EqualLinear, leaky_relu
from blocks.common.shapes import check_nchw, check_resolution
from blocks.families import Head, Mapping, Resolution
from blocks.head.projection import Projection, to_logits
from registry import Slot, incompatible


class LinearHead(Head, kind="linear"):
    """Flattens the map (channel, row, column) and maps it to one logit, or to a scalar product with the condition.

    Args:
        dim: Channels C of the features.
        resolution: Height and width of the features, in pixels.
        cond_dim: Features of the condition c; 0 for no condition. With one, the logit is a scalar product with its
            embedding.
        hidden_dim: Features of the hidden layer; None for no hidden layer.
        embed_dim: Features of the embedding; None for `hidden_dim`, or C without a hidden layer.
        mapping: Embeds the condition; None for a linear embedding.
        num_biases: Number of biases of the hidden layer. StyleSwin's and StyleNAT's discriminators with spectral norm
            have 2, which is equivalent to one bias with twice the learning rate.

    Raises:
        IncompatibleError: There are two biases but no hidden layer.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"hidden_dim": 12, "mapping": {"kind": "mapping", "num_layers": 2}}},
        {"spec": {"hidden_dim": None, "embed_dim": 6, "mapping": None}},
        {"spec": {"hidden_dim": 12, "num_biases": 2}},
    )

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        cond_dim: int = 0,
        *,
        hidden_dim: PositiveInt | None = 512,
        embed_dim: PositiveInt | None = None,
        mapping: Slot[Mapping] | None = "mapping",
        num_biases: Literal[1, 2] = 1,
    ) -> None:
        super().__init__()
        if num_biases == 2 and hidden_dim is None:
            raise incompatible("num_biases", "2 biases need a hidden layer; set hidden_dim")
        self.dim, self.resolution = dim, resolution
        flat = dim * resolution[0] * resolution[1]
        self.hidden = nn.Identity() if hidden_dim is None else EqualLinear(flat, hidden_dim, activation="lrelu")
        self.bias2: nn.Parameter | None = None
        if num_biases == 2 and hidden_dim is not None:
            self.hidden = EqualLinear(flat, hidden_dim)
            self.bias2 = nn.Parameter(torch.zeros(hidden_dim))
        self.out = EqualLinear(hidden_dim or flat, (embed_dim or hidden_dim or dim) if cond_dim else 1)
        self.projection: Projection | None = None
        if cond_dim:
            context = {"z_dim": 0, "style_dim": self.out.out_dim, "num_styles": 1, "cond_dim": cond_dim}
            self.projection = Projection(self.out.out_dim, cond_dim, self.fill("mapping", mapping, **context))

    def forward(self, x: Float[Tensor, "b c h w"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b 1"]:
        check_nchw(self, x, self.dim)
        check_resolution(self, x.shape[2], x.shape[3], self.resolution)
        hidden = self.hidden(x.flatten(1))
        y: Tensor = self.out(hidden if self.bias2 is None else leaky_relu(hidden + self.bias2))
        return to_logits(self, y, c, self.projection)[:, None]
