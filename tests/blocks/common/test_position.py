"""Position embeddings."""

from __future__ import annotations

import torch

from blocks.common.position import SinusoidalGrid


def test_positions_are_sines_then_cosines_of_columns_then_rows():
    grid = SinusoidalGrid(24, (6, 10))().double()
    for t, embedding in enumerate(grid[0, :, :12], start=1):
        angles = torch.tensor([t * 10000 ** (-m / 5) for m in range(6)], dtype=torch.float64)
        torch.testing.assert_close(embedding, torch.cat([angles.sin(), angles.cos()]), rtol=0, atol=2e-6)
    assert torch.equal(grid[:, 0, 12:], grid[0, :6, :12])
    assert torch.equal(grid[0, :, :12], grid[5, :, :12])
    assert torch.equal(grid[:, 0, 12:], grid[:, 9, 12:])
