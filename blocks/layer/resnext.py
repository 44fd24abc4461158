"""R3GAN's residual block: an inverted bottleneck with a grouped convolution and without normalisation.

R3GAN, Huang et al. 2024, https://arxiv.org/abs/2501.05441, section 3; ResNeXt, Xie et al. 2016,
https://arxiv.org/abs/1611.05431; the initialisation: Fixup, Zhang et al. 2019, https://arxiv.org/abs/1901.09321.
"""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.divisors import nearest_divisors
from blocks.common.plain_conv import LEAKY_GAIN, BiasedLeakyReLU, PlainConv2d
from blocks.common.shapes import check_nchw
from blocks.families import Layer, OddInt
from registry import incompatible


class ResNeXtBlock(Layer, kind="resnext"):
    """x + W3 a2(W2 a1(W1 x)): 1x1 to more channels, a grouped convolution, 1x1 back; a: lrelu(x + bias), gain 1.

    W3 is 0 at init. W1 and W2 are scaled by num_blocks ** -0.25 beside the gain of the leaky ReLU.

    Args:
        dim: Channels C of the map.
        num_groups: Groups of the middle convolution; the paper's cardinality.
        expansion: Channels of the middle convolution, divided by C.
        kernel_size: Side of the middle convolution.
        num_blocks: Number of such blocks in the whole network, for the initialisation.

    Raises:
        IncompatibleError: The expanded channels do not divide over the groups.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"num_groups": 4}},
        {"spec": {"num_groups": 2, "expansion": 1, "kernel_size": 5, "num_blocks": 8}},
    )

    def __init__(
        self,
        dim: int,
        *,
        num_groups: PositiveInt = 96,
        expansion: PositiveInt = 2,
        kernel_size: OddInt = 3,
        num_blocks: PositiveInt = 1,
    ) -> None:
        super().__init__()
        hidden = expansion * dim
        if hidden % num_groups:
            fact = f"{hidden} channels do not split evenly over {num_groups} groups"
            raise incompatible("num_groups", f"{fact}; take {nearest_divisors(hidden, num_groups)}")
        gain = LEAKY_GAIN * num_blocks**-0.25
        self.conv1 = PlainConv2d(dim, hidden, gain=gain)
        self.activation1 = BiasedLeakyReLU(hidden)
        self.conv2 = PlainConv2d(hidden, hidden, kernel_size, groups=num_groups, gain=gain)
        self.activation2 = BiasedLeakyReLU(hidden)
        self.conv3 = PlainConv2d(hidden, dim)
        nn.init.zeros_(self.conv3.weight)

    def forward(
        self, x: Float[Tensor, "b c h w"], ws: Float[Tensor, "b n s"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        check_nchw(self, x, self.conv1.in_dim)
        y = self.activation2(self.conv2(self.activation1(self.conv1(x))))
        residual: Tensor = self.conv3(y)
        return x + residual
