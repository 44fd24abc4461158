"""Local batch norm against torch's batch norm of each group."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from blocks.norm.batch_norm_local import BatchNormLocal


@pytest.mark.parametrize(("batch", "groups"), [(4, [4]), (8, [8]), (12, [6, 6]), (9, [5, 4]), (17, [6, 6, 5])])
def test_each_group_is_batch_normalised(batch: int, groups: list[int]) -> None:
    block, batch_norm = BatchNormLocal(6), nn.BatchNorm1d(6, track_running_stats=False)
    x = torch.randn(batch, 6, 10)
    expected = torch.cat([batch_norm(group) for group in x.split(groups)])
    torch.testing.assert_close(block(x.mT[:, None])[:, 0].mT, expected)
    torch.testing.assert_close(block.eval()(x.mT[:, None])[:, 0].mT, expected)


def test_an_empty_batch_stays_empty() -> None:
    y = BatchNormLocal(6)(torch.zeros(0, 2, 3, 6, requires_grad=True))
    y.sum().backward()
    assert y.shape == (0, 2, 3, 6)
