"""The Haar transform, and the intake that sees an image through it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from blocks.common.equalized import leaky_relu
from blocks.common.resample import Downsample2d
from blocks.common.wavelets import haar, inverse_haar
from blocks.stem.from_wavelets import FromWavelets
from registry import IncompatibleError


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_bands_are_average_rows_columns_and_diagonal():
    patterns = torch.tensor([[[1, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]])
    torch.testing.assert_close(haar(patterns[:, None].double()).flatten(1), 2 * torch.eye(4, dtype=torch.float64))


def test_the_transform_keeps_lengths_and_has_an_inverse():
    image = random(2, 3, 6, 10)
    bands = haar(image)
    assert bands.shape == (2, 12, 3, 5)
    torch.testing.assert_close(bands.norm(), image.norm())
    torch.testing.assert_close(inverse_haar(bands), image)


def test_a_later_intake_sees_the_wavelets_of_the_image_at_half_size():
    image, x = random(2, 3, 16, 12), random(2, 5, 4, 3)
    intake = FromWavelets(3, (16, 12), 5).double()
    torch.nn.init.normal_(intake.conv.bias)
    bands = haar(Downsample2d().double()(inverse_haar(haar(image))))
    expected = leaky_relu(F.conv2d(bands, intake.conv.weight / 12**0.5, intake.conv.bias))
    features, shrunk = intake(x, image)
    torch.testing.assert_close(features, x + expected)
    torch.testing.assert_close(shrunk, inverse_haar(bands))


def test_from_wavelets_says_what_does_not_fit():
    with pytest.raises(IncompatibleError, match="15x16 pixels do not split into 2x2; take an even size, or from-rgb"):
        FromWavelets(3, (15, 16), dim=4)
    with pytest.raises(IncompatibleError, match="halving an image of 16x16 never gives twice the 5x5 of the features"):
        FromWavelets(3, 16, 6)(torch.randn(2, 6, 5, 5), torch.randn(2, 3, 16, 16))
