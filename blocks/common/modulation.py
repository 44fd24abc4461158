"""Linear layers whose weight is modulated by a style per sample.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 2.2. Convolutions: the op `modulated_conv2d`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.common.autocast import at_least_float32, no_autocast
from blocks.common.weight_cache import WeightCache


def demodulation_factors(
    weight: Float[Tensor, "o i *k"], style: Float[Tensor, "b i"], *, eps: float = 1e-8
) -> Float[Tensor, "b o"]:
    """1 / |row| for each row of each sample's weight W diag(style), computed without the modulated weight."""
    with no_autocast(style):
        squares = at_least_float32(style).square() @ _squares(weight).mT
        return torch.rsqrt(squares + eps).to(style.dtype)


def _sum_of_squares(weight: Float[Tensor, "o i *k"]) -> Float[Tensor, "o i"]:
    squares = at_least_float32(weight).square()
    return squares.sum(tuple(range(2, weight.ndim))) if weight.ndim > 2 else squares  # over a kernel's pixels


_squares = WeightCache(_sum_of_squares)


def modulated_weight(
    weight: Float[Tensor, "o i"], style: Float[Tensor, "b i"], *, demodulate: bool
) -> Float[Tensor, "b o i"]:
    """The weight of each sample, W diag(style); for layers with few outputs, such as the channels of an image."""
    modulated = weight * style[:, None]
    return modulated * demodulation_factors(weight, style)[:, :, None] if demodulate else modulated


def modulated_linear(
    pixels: Float[Tensor, "p i"] | Float[Tensor, "t p i"], weight: Float[Tensor, "o i"], style: Float[Tensor, "t i"]
) -> Float[Tensor, "t p o"]:
    """Each token's pixels times its weight W diag(style), computed without the modulated weights.

    Pixels without a token axis are shared by all tokens. With more tokens than outputs, the product of pixels and
    weight is computed once and multiplied by the styles.
    """
    # an exported program is for any number of tokens
    if pixels.ndim == 2 and not torch.compiler.is_exporting() and style.shape[0] > weight.shape[0]:
        shared = pixels[:, None] * weight  # p o i
        return (style @ shared.flatten(0, 1).mT).view(style.shape[0], *shared.shape[:2])
    return (pixels * style[:, None]) @ weight.mT


def scaled_linear(
    x: Float[Tensor, "b n i"],
    weight: Float[Tensor, "o i"],
    scales: Float[Tensor, "b o"],
    plus: Float[Tensor, "b n o"] | None = None,
) -> Float[Tensor, "b n o"]:
    """x W^T with each sample's outputs times `scales`, plus `plus`. It scales the smaller of map and weights."""
    if x.shape[1] <= weight.shape[1]:
        y = F.linear(x, weight)
        return y * scales[:, None] if plus is None else torch.addcmul(plus, y, scales[:, None])
    scaled = (weight * scales[:, :, None]).mT
    return x @ scaled if plus is None else torch.baddbmm(plus, x, scaled)
