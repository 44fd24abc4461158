"""Convolution before the low-pass filter of the upsampling: they commute, and the convolution computes fewer pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.common.weight_cache import WeightCache
from blocks.ops.bias_act import bias_act
from blocks.ops.conv2d import conv2d
from blocks.ops.modulated_conv2d.reference import Weight, total_padding
from blocks.ops.upfirdn2d import upfirdn2d
from registry import Kernel


class ConvolveFirst(Kernel):
    """Base of the kernels that convolve at the input's resolution and filter afterwards."""

    op = "modulated_conv2d"
    second_order, forward_ad = True, True

    resample: Callable[..., Any] = upfirdn2d
    conv2d: Callable[..., Any] = conv2d
    scale: Callable[..., Any] = bias_act

    def unavailable(self) -> str | None:
        # called when a block is built: kernels are looked up then, not in forward
        self.resample, self.conv2d, self.scale = upfirdn2d.bind(), conv2d.bind(), bias_act.bind()
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
        flip_kernel: bool,
        groups: int = 1,
    ) -> Tensor:
        """Upsample and convolve; `scales` [B,O] multiply the result of the convolution."""
        size = weight.shape[-1]
        padding = size // 2 if padding is None else padding
        if up == 1 and filter is None:
            weight = _flipped(weight) if flip_kernel else weight
            y: Tensor = self.conv2d(x, weight, padding=padding, groups=groups)
            return y if scales is None else self.scale(y, scale=scales, inplace=True)
        if size == 1:
            y = F.conv2d(x, weight, groups=groups)
        else:  # a transposed convolution upsamples without computing with the inserted zeros
            y = F.conv_transpose2d(x, _transposed(weight, flip_kernel, groups), stride=up, groups=groups)
        y = y if scales is None else self.scale(y, scale=scales, inplace=True)
        left, right, top, bottom = total_padding(up, filter, padding)
        # a transposed convolution adds size - 1 pixels, and none of the zeros after the last pixel
        before, after = 1 - size, (up - size if size > 1 else 0)
        sides = (left + before, right + after, top + before, bottom + after)
        taps = y.new_ones(1, 1) if filter is None else filter
        upsampled: Tensor = self.resample(y, taps, up=up if size == 1 else 1, padding=sides, gain=up**2)
        return upsampled


def _transposed_weight(weight: Weight, flip_kernel: bool, groups: int) -> Float[Tensor, "i o k k"]:
    """The weight as a transposed convolution expects it, which flips the kernel itself."""
    flipped = weight if flip_kernel else weight.flip(2, 3)
    swapped = torch.unflatten(flipped, 0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    return swapped.contiguous(memory_format=torch.channels_last)  # as the convolution would do itself


_flipped = WeightCache(lambda weight: weight.flip(2, 3))
_transposed = WeightCache(_transposed_weight)
