"""Convolutions without bias and without equalised learning rate, and a leaky ReLU with a bias, as in R3GAN.

R3GAN, Huang et al. 2024, https://arxiv.org/abs/2501.05441, section 3; the initialisation for networks without
normalisation: Fixup, Zhang et al. 2019, https://arxiv.org/abs/1901.09321.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blocks.ops.bias_act import SLOPE, bias_act
from blocks.ops.conv2d import conv2d

LEAKY_GAIN = math.sqrt(2 / (1 + SLOPE**2))  # keeps the variance through a leaky ReLU


class PlainConv2d(nn.Module):
    """A convolution of stride 1 with zero padding that keeps the size; weights N(0, (gain / sqrt(fan_in))^2).

    Args:
        in_dim: Channels of x [B,C,H,W].
        out_dim: Channels of y.
        kernel_size: Side of the kernel, odd.
        groups: Groups of channels that are convolved apart.
        gain: Factor of the weights at init.
    """

    def __init__(self, in_dim: int, out_dim: int, kernel_size: int = 1, *, groups: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        self.in_dim, self.groups, self.padding = in_dim, groups, (kernel_size - 1) // 2
        fan_in = in_dim // groups * kernel_size**2
        weight = torch.randn(out_dim, in_dim // groups, kernel_size, kernel_size)
        self.weight = nn.Parameter(weight * (gain / math.sqrt(fan_in)))
        self.convolve = conv2d.bind()

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        y: Tensor = self.convolve(x, self.weight, padding=self.padding, groups=self.groups)
        return y


class BiasedLeakyReLU(nn.Module):
    """lrelu(x + bias) with a bias per channel, 0 at init; slope 0.2, no gain.

    Args:
        dim: Channels of x [B,C,H,W].
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(dim))
        self.activate = bias_act.bind()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        y: Tensor = self.activate(x, self.bias, activation="lrelu", gain=1)
        return y
