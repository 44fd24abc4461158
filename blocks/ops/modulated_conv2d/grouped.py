"""Modulated convolution with a weight per sample, as one convolution with a group per sample.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, appendix B.
"""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor

from blocks.ops.modulated_conv2d.convolve_first import ConvolveFirst
from blocks.ops.modulated_conv2d.reference import Weight, convolve_samples, modulated_weight, normalize_for_float16


class Grouped(ConvolveFirst):
    """Each sample's weight written out; all samples in one grouped convolution."""

    name, priority = "grouped", 5

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
        weights = modulated_weight(x, weight, style, demodulate, eps)
        convolve = partial(self.convolve, up=up, filter=filter, padding=padding, flip_kernel=flip_kernel)
        return convolve_samples(convolve, x, weights)
