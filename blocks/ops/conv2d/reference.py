"""PyTorch's own convolution."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from registry import Kernel


class Reference(Kernel):
    """`F.conv2d`, on every device."""

    op, name = "conv2d", "reference"
    second_order, forward_ad = True, True

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
        """Cross-correlate a map with a weight.

        Args:
            x: The map.
            weight: Weight of each output channel, over the input channels of its group.
            bias: One value per output channel.
            stride: Step of the kernel, in pixels.
            padding: Zeros around the map, in pixels.
            groups: Number of groups that input and output channels are split into.
        """
        return F.conv2d(x, weight, bias, stride=stride, padding=padding, groups=groups)
