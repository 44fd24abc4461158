"""Convolution as PyTorch computes it."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from registry import Kernel


class Reference(Kernel):
    """PyTorch's own, on every device."""

    op, name, second_order = "conv2d", "reference", True

    def run(
        self,
        x: Float[Tensor, "b i h w"],
        weight: Float[Tensor, "o j k l"],
        bias: Float[Tensor, " o"] | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> Float[Tensor, "b o u v"]:
        """Correlate a map with a kernel.

        Args:
            x: The map.
            weight: The kernel.
            bias: One number per channel of the result.
            stride: Step of the kernel, in pixels.
            padding: Zeros around the map, in pixels.
            groups: Parts of the channels that see each other alone.
        """
        return F.conv2d(x, weight, bias, stride=stride, padding=padding, groups=groups)
