"""Upsampling layers."""

from __future__ import annotations

import torch

from blocks.layer.upsample import Upsample


def test_bilinear_repeats_the_border_and_the_filter_pads_with_zeros():
    ones = torch.ones(1, 1, 3, 3)
    assert Upsample(method="bilinear")(ones).min() == 1
    assert Upsample(method="fir")(ones)[0, 0, 0, 0] == 0.75**2
