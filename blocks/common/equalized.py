"""Equalised learning rate: weights are stored at unit scale and multiplied by a constant in each forward pass.

Karras et al. 2018, https://arxiv.org/abs/1710.10196, section 4.1; the learning-rate multiplier: StyleGAN, section 3.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.ops.bias_act import GAINS, SLOPE
from blocks.ops.conv2d import conv2d

Activation = Literal["linear", "lrelu"]


def leaky_relu(x: Tensor) -> Tensor:
    """StyleGAN's activation: leaky ReLU of slope 0.2 times sqrt(2), which roughly keeps unit variance."""
    return F.leaky_relu(x, SLOPE) * math.sqrt(2)


def times(x: Tensor, factor: float) -> Tensor:
    """x times a factor; x itself if the factor is 1, since small networks have as many such products as layers."""
    return x if factor == 1 else x * factor


class EqualLinear(nn.Module):
    """A linear layer with equalised learning rate: y = activation(x (W m / sqrt(in))^T + b m), W ~ N(0,1)/m at init.

    Args:
        in_dim: Features of x, the last axis.
        out_dim: Features of y.
        lr_multiplier: m, a factor of this layer's learning rate.
        bias_init: Initial value of the effective bias b m; None for no bias.
        activation: "lrelu" is leaky ReLU of slope 0.2 times sqrt(2).
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        lr_multiplier: float = 1.0,
        bias_init: float | None = 0.0,
        activation: Activation = "linear",
    ) -> None:
        super().__init__()
        self.in_dim, self.out_dim = in_dim, out_dim
        self.lr_multiplier = lr_multiplier
        self.scale = lr_multiplier / math.sqrt(in_dim)
        self.activation = activation
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim).div_(lr_multiplier))
        self.bias = None if bias_init is None else nn.Parameter(torch.full((out_dim,), bias_init / lr_multiplier))

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        gain = GAINS[self.activation]  # lrelu(x) g = lrelu(x g), so the gain goes into the weights
        bias = None if self.bias is None else times(self.bias, gain * self.lr_multiplier)
        weight, scale = self.weight, gain * self.scale
        # scale the smaller of the two tensors; an exported program is for any batch size
        scale_input = not torch.compiler.is_exporting() and x.numel() < weight.numel()
        y = F.linear(x * scale, weight, bias) if scale_input else F.linear(x, weight * scale, bias)
        return F.leaky_relu(y, SLOPE) if self.activation == "lrelu" else y

    def extra_repr(self) -> str:
        return f"{self.in_dim} -> {self.out_dim}, lr_multiplier={self.lr_multiplier}, {self.activation}"


class EqualConv2d(nn.Module):
    """A convolution with equalised learning rate, zero-padded: y = activation(conv(x, W / sqrt(in k^2)) + b).

    Args:
        in_dim: Channels of x [B,C,H,W].
        out_dim: Channels of y.
        kernel_size: Side of the kernel.
        stride: Step of the kernel.
        padding: Zeros added on each side of the map; None for kernel_size // 2.
        bias: Whether to add a bias, 0 at init.
        activation: "lrelu" is leaky ReLU of slope 0.2 times sqrt(2).
        clamp: Largest magnitude of y; None for no limit.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        bias: bool = True,
        activation: Activation = "linear",
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.in_dim, self.out_dim, self.kernel_size = in_dim, out_dim, kernel_size
        self.stride = stride
        self.padding = kernel_size // 2 if padding is None else padding
        self.scale = 1 / math.sqrt(in_dim * kernel_size**2)
        self.activation = activation
        self.clamp = clamp
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_dim)) if bias else None
        self.convolve = conv2d.bind()

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o u v"]:
        gain = GAINS[self.activation]
        bias = None if self.bias is None else times(self.bias, gain)
        y: Tensor = self.convolve(x, self.weight * (gain * self.scale), bias, stride=self.stride, padding=self.padding)
        y = F.leaky_relu(y, SLOPE) if self.activation == "lrelu" else y
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)

    def extra_repr(self) -> str:
        size = self.kernel_size
        return f"{self.in_dim} -> {self.out_dim}, {size}x{size}, stride={self.stride}, {self.activation}"
