"""Upsampling with positions, and a linear map."""

from __future__ import annotations

import pytest
import torch

from blocks.common.position import SinusoidalGrid
from blocks.layer.upsample_linear import UpsampleLinear
from registry import IncompatibleError


def test_positions_have_weight_0_at_init():
    block = UpsampleLinear(6, (3, 5), dim=8)
    shifted = block(torch.zeros(1, 6, 3, 5))
    assert shifted.abs().max() == 0
    torch.nn.init.ones_(block.alpha)
    torch.testing.assert_close(block(torch.zeros(1, 6, 3, 5))[0], SinusoidalGrid(8, (6, 10))().permute(2, 0, 1))


@pytest.mark.parametrize("dim", [4, 10, 13])
def test_widths_without_position_embedding_are_incompatible(dim):
    with pytest.raises(IncompatibleError, match=f"{dim} channels do not split into sines and cosines"):
        UpsampleLinear(6, (3, 5), dim=dim)
    with pytest.raises(IncompatibleError):
        UpsampleLinear(dim, (3, 5))  # as many as come in


def test_channels_last_memory_format_is_preserved():
    x = torch.randn(2, 6, 3, 5).contiguous(memory_format=torch.channels_last)
    assert UpsampleLinear(6, (3, 5), dim=8)(x).is_contiguous(memory_format=torch.channels_last)
