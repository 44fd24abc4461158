"""Group norm against torch's."""

from __future__ import annotations

import torch
from torch import nn

from blocks.norm.group_norm import GroupNorm


def test_outputs_equal_torchs_and_gradients_are_finite_without_an_input_gradient() -> None:
    block, expected = GroupNorm(12, num_groups=3), nn.GroupNorm(3, 12)
    with torch.no_grad():
        expected.weight.copy_(block.weight.normal_())
        expected.bias.copy_(block.bias.normal_())
    x = torch.randn(2, 12, 5, 7).contiguous(memory_format=torch.channels_last)
    y = block(x.permute(0, 2, 3, 1))
    torch.testing.assert_close(y.permute(0, 3, 1, 2), expected(x))
    y.square().sum().backward()
    assert block.weight.grad is not None
    assert block.weight.grad.isfinite().all()
