"""Clamps of convolution layers."""

from __future__ import annotations

import torch

from blocks.layer.conv import Conv
from blocks.layer.residual_conv import ResidualConv
from blocks.stem.from_rgb import FromRGB


def test_clamp_bounds_the_output_of_every_convolution_layer() -> None:
    torch.manual_seed(0)
    x = 1e4 * torch.randn(2, 6, 8, 8)
    assert Conv(6, dim=4, clamp=3.0)(x).abs().max() == 3
    assert FromRGB(3, dim=4, clamp=3.0)(None, x[:, :3])[0].abs().max() == 3
    assert ResidualConv(6, (8, 8), dim=32, clamp=3.0, architecture="orig")(x).abs().max() == 3
