"""Linear layers and convolutions with equalised learning rate."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from blocks.common.equalized import EqualConv2d, EqualLinear, leaky_relu
from tests.tensors import normal


@pytest.mark.parametrize("activation", ["linear", "lrelu"])
def test_outputs_match_the_formula(activation: Any) -> None:
    torch.manual_seed(0)
    linear = EqualLinear(5, 7, lr_multiplier=0.3, bias_init=0.4, activation=activation).double()
    conv = EqualConv2d(5, 7, 3, activation=activation, clamp=0.9).double()
    act = leaky_relu if activation == "lrelu" else nn.Identity()
    x, image = normal(4, 5), normal(2, 5, 6, 4)
    expected = act(x @ linear.weight.T * (0.3 / math.sqrt(5)) + linear.bias * 0.3)
    torch.testing.assert_close(linear(x), expected)
    with torch.no_grad():
        conv.bias.uniform_()
    expected = act(F.conv2d(image, conv.weight / math.sqrt(45), conv.bias, padding=1)).clamp(-0.9, 0.9)
    torch.testing.assert_close(conv(image), expected)
