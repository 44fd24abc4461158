"""The learned constant."""

from __future__ import annotations

import torch

from blocks.synthesis_input.constant import Constant


def test_the_map_is_the_same_for_every_image():
    x = Constant(dim=6, resolution=(3, 5))(torch.zeros(2, 0, 12))
    assert x.shape == (2, 6, 3, 5)
    assert torch.equal(x[0], x[1])
    assert x.is_contiguous(memory_format=torch.channels_last)
