"""Modulated convolution with each sample's weight written out, and the parts that its kernels share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.common.modulation import demodulation_factors
from blocks.common.weight_cache import WeightCache
from blocks.ops.upfirdn2d import Padding, upfirdn2d
from registry import Kernel

Weight = Float[Tensor, "o i k k"]


def modulated_weight(
    x: Tensor, weight: Weight, style: Float[Tensor, "b i"], demodulate: bool, eps: float
) -> Float[Tensor, "b o i k k"]:
    """The weight of each sample, w s or w s d, in x's dtype."""
    modulated = weight * style[:, None, :, None, None]
    if demodulate:
        modulated = modulated * demodulation_factors(weight, style, eps=eps)[:, :, None, None, None]
    return modulated.to(x.dtype)


def convolve_samples(
    convolve: Callable[..., Tensor], x: Float[Tensor, "b i h w"], weights: Float[Tensor, "b o i k k"]
) -> Float[Tensor, "b o u v"]:
    """Convolve each sample with its own weight, as one convolution with a group per sample."""
    batch = x.shape[0]
    if batch == 0:  # PyTorch has no convolution of zero groups
        return convolve(x, weights.sum(0), groups=1)
    y = convolve(x.flatten(0, 1)[None], weights.flatten(0, 1), groups=batch)
    return torch.unflatten(y, 1, (batch, weights.shape[1]))[0]


def normalize_for_float16(x: Tensor, weight: Weight, style: Tensor, demodulate: bool) -> tuple[Weight, Tensor]:
    """Remove the factors of weight and style that demodulation cancels, where float16 would overflow from them."""
    if x.dtype != torch.float16 or not demodulate:
        return weight, style
    return normalized_weight(weight), style / style.abs().amax(1, keepdim=True)


def _normalized_weight(weight: Weight) -> Weight:
    """Each output channel's weight divided by its largest magnitude and the root of its size, in float16."""
    largest = weight.abs().amax((1, 2, 3), keepdim=True).float()
    scaled: Tensor = weight / (largest * weight[0].numel() ** 0.5)
    return scaled.to(torch.float16, memory_format=torch.channels_last)


normalized_weight = WeightCache(_normalized_weight)


def total_padding(up: int, filter: Tensor | None, padding: int) -> Padding:
    """Padding of the upsampled map that filter and convolution together use up."""
    if filter is None:
        return padding, padding, padding, padding
    height, width = filter.shape
    left, right, top, bottom = (width + up - 1) // 2, (width - up) // 2, (height + up - 1) // 2, (height - up) // 2
    return left + padding, right + padding, top + padding, bottom + padding


class Reference(Kernel):
    """Upsample and filter the map, then convolve each sample with its own weight w s d."""

    op, name = "modulated_conv2d", "reference"
    second_order, forward_ad = True, True

    def run(
        self,
        x: Float[Tensor, "b i h w"],
        weight: Weight,
        style: Float[Tensor, "b i"],
        *,
        demodulate: bool = True,
        up: int = 1,
        filter: Float[Tensor, "f f"] | None = None,
        padding: int | None = None,
        flip_kernel: bool = False,
        eps: float = 1e-8,
    ) -> Float[Tensor, "b o u v"]:
        """Convolve each sample with its own weight.

        Args:
            x: The map.
            weight: The weight that samples share, its scale included.
            style: Factors of the input channels.
            demodulate: Normalise the weight of each sample and output channel to unit length.
            up: Upsampling factor, applied before the convolution.
            filter: Low-pass filter of the upsampling, of sum 1; None for none.
            padding: Zeros around the upsampled map; None for k // 2.
            flip_kernel: Flip the kernel by 180 degrees before it is correlated with the map (a true convolution), as
                StyleGAN's upsampling layers do.
            eps: Added to the squared length of the weight.
        """
        weight, style = normalize_for_float16(x, weight, style, demodulate)
        sides = total_padding(up, filter, weight.shape[2] // 2 if padding is None else padding)
        taps = x.new_ones(1, 1) if filter is None else filter
        upsampled = upfirdn2d.reference.run(x, taps, up=up, padding=sides, gain=up**2)
        weights = modulated_weight(x, weight, style, demodulate, eps)
        return convolve_samples(F.conv2d, upsampled, weights.flip(-1, -2) if flip_kernel else weights)
