"""From wavelets: features of the Haar bands."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from blocks.common.equalized import leaky_relu
from blocks.common.images.wavelets import haar, inverse_haar
from blocks.common.resample import Downsample2d
from blocks.stem.from_wavelets import FromWavelets
from registry import IncompatibleError
from tests.tensors import normal


def test_a_later_stem_adds_features_of_the_downsampled_image():
    image, x = normal(2, 3, 16, 12), normal(2, 5, 4, 3)
    stem = FromWavelets(3, (16, 12), 5).double()
    torch.nn.init.normal_(stem.conv.bias)
    bands = haar(Downsample2d().double()(inverse_haar(haar(image))))
    expected = leaky_relu(F.conv2d(bands, stem.conv.weight / 12**0.5, stem.conv.bias))
    features, downsampled = stem(x, image)
    torch.testing.assert_close(features, x + expected)
    torch.testing.assert_close(downsampled, inverse_haar(bands))


def test_sizes_that_do_not_fit_are_incompatible():
    with pytest.raises(IncompatibleError, match="15x16 pixels do not split into 2x2; take an even size, or from-rgb"):
        FromWavelets(3, (15, 16), dim=4)
    with pytest.raises(IncompatibleError, match="halving an image of 16x16 never gives twice the 5x5 of the features"):
        FromWavelets(3, 16, 6)(torch.randn(2, 6, 5, 5), torch.randn(2, 3, 16, 16))


def test_an_image_with_odd_sides_is_refused() -> None:
    with pytest.raises(ValueError, match="haar: 7x8 pixels do not split into 2x2; pad or crop to even sides"):
        FromWavelets(3, (8, 8), dim=4)(None, torch.randn(2, 3, 7, 8))
