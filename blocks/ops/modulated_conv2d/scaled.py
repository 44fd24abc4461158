"""Modulated convolution with one weight for all samples.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 2.2: scaling the weight's input channels equals
scaling the map, and demodulation equals scaling the result.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.common.modulation import demodulation_factors
from blocks.common.weight_cache import WeightCache
from blocks.ops.modulated_conv2d.convolve_first import ConvolveFirst
from blocks.ops.modulated_conv2d.reference import Weight, modulated_weight, normalize_for_float16

LARGE_MAP = 4  # times as many numbers as the weight has


class Scaled(ConvolveFirst):
    """Scales x before the convolution by the style, and the result by the demodulation factors.

    For a single sample with a large map it scales the weight instead.
    """

    name, priority, counted = "scaled", 10, True
    portable = True  # the reference's groups depend on the batch size, which ONNX has no convolution for

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
        weight, style = normalize_for_float16(x, weight, style, demodulate)
        if _scales_weight(x, weight):
            (weight,) = modulated_weight(x, weight, style, demodulate, eps)
            return self.convolve(x, weight, up=up, filter=filter, padding=padding, flip_kernel=flip_kernel)
        scaled = self.scale(x, scale=style)
        scales = demodulation_factors(weight, style, eps=eps).to(x.dtype) if demodulate else None
        weight = weight if weight.dtype == x.dtype else _cast(weight, x.dtype)
        return self.convolve(scaled, weight, scales, up=up, filter=filter, padding=padding, flip_kernel=flip_kernel)


def _scales_weight(x: Tensor, weight: Weight) -> bool:
    if torch.compiler.is_compiling() or x.device.type != "cpu":  # a compiled program is for any batch size
        return False
    return x.shape[0] == 1 and x.numel() > LARGE_MAP * weight.numel()


def _cast_weight(weight: Weight, dtype: torch.dtype) -> Weight:
    return weight.to(dtype, memory_format=torch.channels_last)


_cast = WeightCache(_cast_weight)
