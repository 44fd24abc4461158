"""Linear maps as vision transformers start them: weights of a truncated normal distribution, biases zero.

ViT, Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929; StyleNAT starts all its linear maps this way.
"""

from __future__ import annotations

from torch import nn

STD = 0.02


def small_linear(in_dim: int, out_dim: int, *, bias: bool = True) -> nn.Linear:
    """A linear map with weights of standard deviation 0.02 and bias 0."""
    linear = nn.Linear(in_dim, out_dim, bias=bias)
    nn.init.trunc_normal_(linear.weight, std=STD)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
