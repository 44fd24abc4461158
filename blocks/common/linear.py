"""The linear maps of transformer blocks: as vision transformers start them, or with equalised learning rate.

ViT, Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929: weights of a truncated normal distribution, biases zero;
StyleNAT starts all its linear maps this way. The ViTGAN authors' code has equalised ones: `blocks.common.equalized`.
"""

from __future__ import annotations

from torch import nn

from blocks.common.equalized import EqualLinear

STD = 0.02


def linear(in_dim: int, out_dim: int, *, bias: bool = True, equalized: bool = False) -> nn.Linear | EqualLinear:
    """A linear map, its bias 0 at the start.

    Args:
        in_dim: Features of x, the last axis.
        out_dim: Features of y.
        bias: Whether there is a bias.
        equalized: Whether weights are N(0,1) and scaled when used; otherwise they have standard deviation 0.02.
    """
    if equalized:
        return EqualLinear(in_dim, out_dim, bias_init=0.0 if bias else None)
    plain = nn.Linear(in_dim, out_dim, bias=bias)
    nn.init.trunc_normal_(plain.weight, std=STD)
    if bias:
        nn.init.zeros_(plain.bias)
    return plain
