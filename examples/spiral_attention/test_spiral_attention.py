"""Spiral attention passes the conformance suite and does what its docstring says."""

import pytest
import torch

from ganblocks.testing import plugin_checks
from registry import IncompatibleError
from spiral_attention import SpiralAttention


@pytest.mark.parametrize("check", plugin_checks("spiral"), ids=str)
def test_spiral_attention_conforms(check):
    check()


def test_a_pixel_attends_to_itself_and_within_the_reach():
    block = SpiralAttention(8, (9, 9), num_heads=2, reach=3.0)
    x = torch.randn(1, 9, 9, 8, requires_grad=True)
    block(x)[0, 4, 4].sum().backward()
    offsets = x.grad[0].abs().sum(dim=-1).nonzero() - 4
    assert (offsets == 0).all(dim=1).any()
    assert offsets.float().norm(dim=1).max() <= 3.8  # rounded to whole pixels


def test_heads_must_divide_the_channels():
    with pytest.raises(IncompatibleError, match="10 channels do not split evenly over 4 heads"):
        SpiralAttention(10, 8)
