"""Linear patches."""

from __future__ import annotations

import torch

from blocks.image_head.linear_patches import LinearPatches


def test_patches_are_at_the_positions_of_their_tokens():
    block = LinearPatches(1, 1, patch_size=2).double()
    with torch.no_grad():
        block.patch.weight.copy_(torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
    tokens = torch.tensor([[1.0, 10.0, 100.0]], dtype=torch.float64)[None, None]
    expected = [[1.0, 2.0, 10.0, 20.0, 100.0, 200.0], [3.0, 4.0, 30.0, 40.0, 300.0, 400.0]]
    assert block(tokens, torch.zeros(2, 0, 12))[0, 0].tolist() == expected
