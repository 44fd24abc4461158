"""StyleGAN2's discriminator block against its formula, shapes and errors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blocks.common.equalized import leaky_relu
from blocks.layer.residual_conv import ResidualConv
from registry import IncompatibleError


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (2, 3), (16, 6)], ids=str)
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("architecture", ["resnet", "orig"])
def test_sides_are_halved_and_rounded_down(size: tuple[int, int], down: Any, architecture: Any) -> None:
    block = ResidualConv(6, size, dim=10, down=down, architecture=architecture)
    y = block(torch.randn(2, 6, *size).contiguous(memory_format=torch.channels_last))
    assert y.shape == (2, 10, size[0] // down, size[1] // down)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert sum(p.numel() for p in block.parameters()) == 9 * 36 + 6 + 9 * 60 + 10 + 60 * (architecture == "resnet")


def test_the_output_is_two_convolutions_plus_a_shortcut() -> None:
    torch.manual_seed(0)
    block, x = ResidualConv(4, (7, 9), dim=5).double(), normal(2, 4, 7, 9)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
    kernel = (torch.outer(taps, taps) / 64).expand(4, 1, 4, 4)
    main = leaky_relu(F.conv2d(x, block.conv1.weight / 6, padding=1))
    main = F.conv2d(main, kernel, padding=2, groups=4)
    main = leaky_relu(F.conv2d(main, block.conv2.weight / 6, stride=2))
    skip = F.conv2d(F.conv2d(x, kernel, padding=1, stride=2, groups=4), block.skip.weight / 2)
    torch.testing.assert_close(block(x), (main + skip) / math.sqrt(2))


def test_the_variance_stays_near_1() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 64, 32, 32)
    for _ in range(3):
        x = ResidualConv(64, (32, 32), dim=64, down=1)(x)
    assert 0.5 < x.square().mean() < 2


def test_a_single_pixel_cannot_be_halved() -> None:
    with pytest.raises(IncompatibleError, match=r"down +1x8 pixels cannot be halved; take down: 1"):
        ResidualConv(4, (1, 8), dim=4)
