"""Attention of several kinds, each on its own share of the channels."""

from __future__ import annotations

import pytest
import torch

from blocks import MixedHeads
from registry import IncompatibleError

PARTS = (
    {"kind": "shifted-window", "num_heads": 2, "window_size": 4, "shift_sizes": [0, 2]},
    {"kind": "hydra-na", "num_heads": 1, "kernel_sizes": [3], "dilations": [2]},
)


def test_each_part_attends_on_its_share_of_the_channels() -> None:
    torch.manual_seed(0)
    block = MixedHeads(12, 8, parts=PARTS).double()
    with torch.no_grad():
        for projection in (block.in_proj, block.out_proj):
            projection.weight.copy_(torch.eye(12))
            projection.bias.zero_()
    x = torch.randn(2, 8, 8, 12, dtype=torch.float64)
    first, second = x.split(6, dim=-1)
    torch.testing.assert_close(block(x), torch.cat([block.parts[0](first), block.parts[1](second)], dim=-1))


def test_problems_of_the_parts_are_reported_at_their_place() -> None:
    with pytest.raises(IncompatibleError, match="12 channels do not split evenly over 5 parts; take 4 or 6"):
        MixedHeads(12, 8, parts=PARTS * 2 + PARTS[:1])
    with pytest.raises(IncompatibleError, match=r"parts\.1\.num_heads\s+5 channels do not split"):
        MixedHeads(10, 8, parts=({"kind": "dense", "num_heads": 5}, {"kind": "dense", "num_heads": 2}))
