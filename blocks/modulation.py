"""Linear maps whose weight a style modulates, sample by sample.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 2.2; convolutions: the op `modulated_conv2d`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.precision import at_least_float32


def demodulation(
    weight: Float[Tensor, "o i *k"], style: Float[Tensor, "b i"], *, eps: float = 1e-8
) -> Float[Tensor, "b o"]:
    """What brings each output's share of a sample's weight, W diag(style), to unit length; no such weight is made."""
    of_pairs = at_least_float32(weight).square()[..., None].flatten(2).sum(-1)  # over the pixels of a kernel
    squares = at_least_float32(style).square() @ of_pairs.mT
    return torch.rsqrt(squares + eps).to(style.dtype)


def modulated_weight(
    weight: Float[Tensor, "o i"], style: Float[Tensor, "b i"], *, demodulate: bool, eps: float = 1e-8
) -> Float[Tensor, "b o i"]:
    """The weight of each sample, W diag(style): for few outputs, such as the three of an image."""
    modulated = weight * style[:, None]
    return modulated * demodulation(weight, style, eps=eps)[:, :, None] if demodulate else modulated
