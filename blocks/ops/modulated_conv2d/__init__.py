"""Convolution by a weight whose input channels each sample's style scales.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 2.2; the per-sample weight as a convolution of
groups: there, appendix B.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.common.modulation import demodulation
from blocks.common.weight_cache import WeightCache
from blocks.ops.conv2d import conv2d
from blocks.ops.upfirdn2d import Padding, reference, upfirdn2d
from registry import Kernel, Op

Weight = Float[Tensor, "o i k k"]


class Reference(Kernel):
    """Each sample's weight, w s d, written out; the map is resampled before it is convolved."""

    op, name, second_order = "modulated_conv2d", "reference", True

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
        true_convolution: bool = False,
        eps: float = 1e-8,
    ) -> Float[Tensor, "b o u v"]:
        """Convolve each sample by its own weight.

        Args:
            x: The map.
            weight: The weight that samples share, its scale included.
            style: Factors of the input channels.
            demodulate: Whether each output's share of a sample's weight is brought to unit length.
            up: Factor by which resolution grows, before the convolution.
            filter: Low-pass filter of the growth, of sum 1; None for none.
            padding: Zeros around the map, after the growth; None for k // 2.
            true_convolution: Whether the kernel is turned by 180 degrees before it is correlated with the map, which is
                what StyleGAN's layers do when they upsample, and only then.
            eps: What is added to the squared length.
        """
        weight, style = tempered(x, weight, style, demodulate)
        sides = total_padding(up, filter, weight.shape[2] // 2 if padding is None else padding)
        taps = x.new_ones(1, 1) if filter is None else filter
        grown = reference.run(x, taps, up=up, padding=sides, gain=up**2)
        own = sample_weights(x, weight, style, demodulate, eps)  # b o i k k
        own = own.flip(-1, -2) if true_convolution else own
        y = F.conv2d(grown.flatten(0, 1)[None], own.flatten(0, 1), groups=len(x))
        return y.reshape(len(x), -1, *y.shape[2:])


class Commuting(Kernel):
    """Growth, filter and convolution commute: the convolution comes first, while the map is small."""

    op, second_order = "modulated_conv2d", True

    resample: Callable[..., Any] = upfirdn2d
    plainly: Callable[..., Any] = conv2d

    def unavailable(self) -> str | None:
        # asked when a block is built, which is when kernels are looked up
        self.resample, self.plainly = upfirdn2d.bind(), conv2d.bind()
        return None

    def convolve(
        self,
        x: Tensor,
        weight: Tensor,
        scales: Tensor | None = None,
        *,
        up: int,
        filter: Tensor | None,
        padding: int | None,
        true_convolution: bool,
        groups: int = 1,
    ) -> Tensor:
        """`scales` [B,O] multiply the result of the convolution."""
        size = weight.shape[-1]
        padding = size // 2 if padding is None else padding
        if up == 1 and filter is None:
            weight = _turned(weight) if true_convolution else weight
            y: Tensor = self.plainly(x, weight, padding=padding, groups=groups)
            return y if scales is None else y * scales[:, :, None, None]
        if size == 1:
            y = F.conv2d(x, weight, groups=groups)
        else:  # a transposed convolution grows the map and never touches the zeros
            y = F.conv_transpose2d(x, _swapped(weight, true_convolution, groups), stride=up, groups=groups)
        y = y if scales is None else y * scales[:, :, None, None]
        left, right, top, bottom = total_padding(up, filter, padding)
        before, after = 1 - size, (up - size if size > 1 else 0)  # a transposed convolution adds size - 1, and ends at
        sides = (left + before, right + after, top + before, bottom + after)  # the last pixel, not at the zeros after
        taps = y.new_ones(1, 1) if filter is None else filter
        grown: Tensor = self.resample(y, taps, up=up if size == 1 else 1, padding=sides, gain=up**2)
        return grown


class Scaled(Commuting):
    """One weight for all samples: x is scaled before the convolution, and demodulated after it."""

    name, priority, counted = "scaled", 10, True

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
        true_convolution: bool = False,
        eps: float = 1e-8,
    ) -> Float[Tensor, "b o u v"]:
        weight, style = tempered(x, weight, style, demodulate)
        scaled = x * style.to(x.dtype)[:, :, None, None]
        scales = demodulation(weight, style, eps=eps).to(x.dtype) if demodulate else None
        options: dict[str, Any] = {"up": up, "filter": filter, "padding": padding, "true_convolution": true_convolution}
        return self.convolve(scaled, weight.to(x.dtype), scales, **options)


class Grouped(Commuting):
    """A weight for each sample, all of them in one convolution with a group per sample."""

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
        true_convolution: bool = False,
        eps: float = 1e-8,
    ) -> Float[Tensor, "b o u v"]:
        weight, style = tempered(x, weight, style, demodulate)
        own = sample_weights(x, weight, style, demodulate, eps).flatten(0, 1)
        options: dict[str, Any] = {"up": up, "filter": filter, "padding": padding, "true_convolution": true_convolution}
        y = self.convolve(x.flatten(0, 1)[None], own, groups=len(x), **options)
        return y.reshape(len(x), -1, *y.shape[2:])


def _inputs_first(weight: Weight, true_convolution: bool, groups: int) -> Float[Tensor, "i o k k"]:
    """As a transposed convolution wants a weight, which turns it by itself."""
    turned = weight if true_convolution else weight.flip(2, 3)
    swapped = turned.reshape(groups, -1, *turned.shape[1:]).transpose(1, 2).flatten(0, 1)
    return swapped.contiguous(memory_format=torch.channels_last)  # as the convolution would do itself


_turned = WeightCache(lambda weight: weight.flip(2, 3))
_swapped = WeightCache(_inputs_first)


def sample_weights(
    x: Tensor, weight: Weight, style: Float[Tensor, "b i"], demodulate: bool, eps: float
) -> Float[Tensor, "b o i k k"]:
    """w s, and d if asked for, as numbers like x's."""
    own = weight * style[:, None, :, None, None]
    if demodulate:
        own = own * demodulation(weight, style, eps=eps)[:, :, None, None, None]
    return own.to(x.dtype)


def tempered(x: Tensor, weight: Weight, style: Tensor, demodulate: bool) -> tuple[Weight, Tensor]:
    """Weight and style without the factors that demodulation cancels, where float16 would overflow by them."""
    if x.dtype != torch.float16 or not demodulate:
        return weight, style
    fan_in = weight[0].numel()
    return (
        weight / (weight.abs().amax((1, 2, 3), keepdim=True) * fan_in**0.5),
        style / style.abs().amax(1, keepdim=True),
    )


def total_padding(up: int, filter: Tensor | None, padding: int) -> Padding:
    """Zeros around the grown map that filter and convolution use up."""
    if filter is None:
        return padding, padding, padding, padding
    height, width = filter.shape
    left, right, top, bottom = (width + up - 1) // 2, (width - up) // 2, (height + up - 1) // 2, (height - up) // 2
    return left + padding, right + padding, top + padding, bottom + padding


modulated_conv2d = Op("modulated_conv2d", Reference(), Scaled(), Grouped())
"""Call: (x, weight, style, *, demodulate=True, up=1, filter=None, padding=None, true_convolution=False, eps=1e-8).

x [B,I,H,W], weight [O,I,k,k], style [B,I] -> [B,O,up H,up W]: conv(x s) d with d = (sum (w s)^2 + eps)^-1/2. With `up`
the map first grows: zeros between its pixels, then `filter` (with gain up^2).
"""
