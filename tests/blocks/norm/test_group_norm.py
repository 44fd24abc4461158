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


def test_transforms_of_torch_func_work_without_gradients() -> None:
    block = GroupNorm(8, num_groups=2)
    x, direction = (torch.randn(2, 8, 3, 4).permute(0, 2, 3, 1) for _ in range(2))
    expected = torch.func.jvp(block, (x,), (direction,))[1]
    with torch.no_grad():
        torch.testing.assert_close(torch.func.jvp(block, (x,), (direction,))[1], expected)
        torch.testing.assert_close(torch.func.vmap(block)(x[None])[0], block(x))
