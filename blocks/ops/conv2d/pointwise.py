"""A 1x1 convolution as a matrix product of pixels and weight."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from registry import Kernel
from registry.kernels import wants_second_order


class Pointwise(Kernel):
    """`F.linear` over the pixels of a channels-last map on a CPU, whose derivatives are matrix products too.

    PyTorch's convolution has about the same speed up to the first derivative; its second takes up to twice as long.
    """

    op, name, priority = "conv2d", "pointwise", 5
    second_order, forward_ad = True, True

    def unsupported(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> list[str]:
        reasons = []
        if x.device.type != "cpu":
            reasons.append(f"runs on CPUs only, not on {x.device.type}")
        if tuple(weight.shape[2:]) != (1, 1) or stride != 1 or padding or groups != 1:
            reasons.append("needs a 1x1 kernel with stride 1, one group and no padding")
        return reasons

    def drawbacks(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, **options: int) -> list[str]:
        if not wants_second_order():
            return ["only pays off where a gradient is differentiated"]
        last = x.is_contiguous(memory_format=torch.channels_last)
        return [] if last else ["copies maps that are not channels-last"]

    def run(
        self,
        x: Float[Tensor, "b i h w"],
        weight: Float[Tensor, "o i 1 1"],
        bias: Float[Tensor, " o"] | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> Float[Tensor, "b o h w"]:
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
