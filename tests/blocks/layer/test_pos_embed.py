"""Learned position embeddings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blocks.layer.pos_embed import PosEmbed


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_init_std_sets_the_initial_deviation() -> None:
    torch.manual_seed(0)
    x = normal(2, 64, 9, 7)
    assert torch.equal(PosEmbed(64, (9, 7)).double()(x), x)
    added = PosEmbed(64, (9, 7), init_std=0.02).double()(x) - x
    torch.testing.assert_close(added[0], added[1])
    assert added[0].std().item() == pytest.approx(0.02, rel=0.1)
