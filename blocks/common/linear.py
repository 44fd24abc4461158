"""The linear layers of transformer blocks, initialised as in vision transformers or with equalised learning rate.

ViT, Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929: weights from a truncated normal distribution, biases
zero; StyleNAT does the same. The ViTGAN authors' code has equalised layers: `blocks.common.equalized`.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.equalized import EqualLinear

STD = 0.02
Init = Literal["truncated-normal", "xavier-uniform"]


def linear(
    in_dim: int,
    out_dim: int,
    *,
    bias: bool = True,
    equalized: bool = False,
    init: Init = "truncated-normal",
    gain: float = 1.0,
) -> nn.Linear | EqualLinear:
    """A linear layer with bias 0 at init.

    Args:
        in_dim: Features of x, the last axis.
        out_dim: Features of y.
        bias: Whether to add a bias.
        equalized: Whether to use equalised learning rate; `init` and `gain` are then without effect.
        init: Initial weights: normal of standard deviation 0.02, truncated; or uniform as in Glorot and Bengio 2010,
            https://proceedings.mlr.press/v9/glorot10a.html.
        gain: Factor of the uniform initial weights.
    """
    if equalized:
        return EqualLinear(in_dim, out_dim, bias_init=0.0 if bias else None)
    plain = nn.Linear(in_dim, out_dim, bias=bias)
    if init == "xavier-uniform":
        nn.init.xavier_uniform_(plain.weight, gain)
    else:
        nn.init.trunc_normal_(plain.weight, std=STD)
    if bias:
        nn.init.zeros_(plain.bias)
    return plain


class SlowLinear(nn.Module):
    """A linear layer whose weight and bias are multiplied by a constant, so that Adam changes them more slowly.

    y = x (m W)^T + m b. At init m W is uniform as in Glorot and Bengio, b is 0. Unlike `EqualLinear` it does not divide
    by the root of the number of inputs.

    Args:
        in_dim: Features of x, the last axis.
        out_dim: Features of y.
        lr_multiplier: m.
        bias: Whether to add a bias.
    """

    def __init__(self, in_dim: int, out_dim: int, *, lr_multiplier: float, bias: bool = True) -> None:
        super().__init__()
        self.lr_multiplier = lr_multiplier
        self.weight = nn.Parameter(torch.empty(out_dim, in_dim))
        self.bias = nn.Parameter(torch.zeros(out_dim)) if bias else None
        nn.init.xavier_uniform_(self.weight, 1 / lr_multiplier)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        bias = None if self.bias is None else self.bias * self.lr_multiplier
        return F.linear(x, self.weight * self.lr_multiplier, bias)
