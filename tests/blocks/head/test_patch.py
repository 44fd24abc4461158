"""The patch head."""

from __future__ import annotations

import torch

from blocks.head.patch import PatchHead


def test_there_is_one_logit_per_pixel() -> None:
    torch.manual_seed(0)
    head, x = PatchHead(6), torch.randn(2, 6, 3, 4)
    moved = x.clone()
    moved[:, :, 2, 1] += 1
    assert head(x).shape == (2, 12)
    assert ((head(moved) - head(x)).abs() > 1e-6).nonzero()[:, 1].tolist() == [9, 9]
    conditional = PatchHead(6, 5)
    assert conditional(x, torch.randn(2, 5)).shape == (2, 12)
