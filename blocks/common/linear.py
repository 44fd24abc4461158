"""The linear layers of transformer blocks, initialised as in vision transformers or with equalised learning rate.

ViT, Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929: weights from a truncated normal distribution, biases
zero; StyleNAT does the same. The ViTGAN authors' code has equalised layers: `blocks.common.equalized`.
"""

from __future__ import annotations

from torch import nn

from blocks.common.equalized import EqualLinear

STD = 0.02


def linear(in_dim: int, out_dim: int, *, bias: bool = True, equalized: bool = False) -> nn.Linear | EqualLinear:
    """A linear layer with bias 0 at init.

    Args:
        in_dim: Features of x, the last axis.
        out_dim: Features of y.
        bias: Whether to add a bias.
        equalized: Whether to use equalised learning rate; otherwise weights have standard deviation 0.02 at init.
    """
    if equalized:
        return EqualLinear(in_dim, out_dim, bias_init=0.0 if bias else None)
    plain = nn.Linear(in_dim, out_dim, bias=bias)
    nn.init.trunc_normal_(plain.weight, std=STD)
    if bias:
        nn.init.zeros_(plain.bias)
    return plain
