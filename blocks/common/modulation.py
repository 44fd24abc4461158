"""Linear maps whose weight a style modulates, sample by sample.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 2.2; convolutions: the op `modulated_conv2d`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.common.autocast import at_least_float32
from blocks.common.weight_cache import WeightCache


def demodulation(
    weight: Float[Tensor, "o i *k"], style: Float[Tensor, "b i"], *, eps: float = 1e-8
) -> Float[Tensor, "b o"]:
    """What brings each output's share of a sample's weight, W diag(style), to unit length; no such weight is made."""
    squares = at_least_float32(style).square() @ _squares(weight).mT
    return torch.rsqrt(squares + eps).to(style.dtype)


def _squares_of_pairs(weight: Float[Tensor, "o i *k"]) -> Float[Tensor, "o i"]:
    squares = at_least_float32(weight).square()
    return squares.sum(tuple(range(2, weight.ndim))) if weight.ndim > 2 else squares  # over the pixels of a kernel


_squares = WeightCache(_squares_of_pairs)


def modulated_weight(
    weight: Float[Tensor, "o i"], style: Float[Tensor, "b i"], *, demodulate: bool, eps: float = 1e-8
) -> Float[Tensor, "b o i"]:
    """The weight of each sample, W diag(style): for few outputs, such as the three of an image."""
    modulated = weight * style[:, None]
    return modulated * demodulation(weight, style, eps=eps)[:, :, None] if demodulate else modulated


def modulated_pixels(
    pixels: Float[Tensor, "p i"] | Float[Tensor, "t p i"], weight: Float[Tensor, "o i"], style: Float[Tensor, "t i"]
) -> Float[Tensor, "t p o"]:
    """Each token's pixels by its weight, W diag(style), without making any token's weight.

    Pixels without a token's axis are the same for all tokens. Pixels times weights is then shared too, so that one
    product with the styles does it all; worth it as soon as there are more tokens than outputs.
    """
    if pixels.ndim == 2 and style.shape[0] > weight.shape[0]:
        shared = pixels[:, None] * weight  # p o i
        return (style @ shared.flatten(0, 1).mT).view(len(style), *shared.shape[:2])
    return (pixels * style[:, None]) @ weight.mT


def scaled_linear(
    x: Float[Tensor, "b n i"],
    weight: Float[Tensor, "o i"],
    scales: Float[Tensor, "b o"],
    plus: Float[Tensor, "b n o"] | None = None,
) -> Float[Tensor, "b n o"]:
    """x W^T, a sample's outputs times a number each, plus `plus`. The smaller of map and weights is what is scaled."""
    if x.shape[1] <= weight.shape[1]:
        y = F.linear(x, weight)
        return y * scales[:, None] if plus is None else torch.addcmul(plus, y, scales[:, None])
    own = (weight * scales[:, :, None]).mT
    return x @ own if plus is None else torch.baddbmm(plus, x, own)
