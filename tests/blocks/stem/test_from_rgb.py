"""From RGB: features of the colours, of images in either range."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from blocks.common.resample import Downsample2d
from blocks.stem.from_rgb import FromRGB
from registry import IncompatibleError
from tests.tensors import normal


@pytest.mark.parametrize(
    ("image_size", "size"), [((16, 16), (16, 16)), ((16, 16), (4, 4)), ((13, 22), (3, 5))], ids=str
)
def test_a_later_stem_adds_features_of_the_downsampled_image(image_size: Any, size: Any) -> None:
    torch.manual_seed(0)
    stem, x, image = FromRGB(3, 6).double(), normal(2, 6, *size), normal(2, 3, *image_size)
    small = image
    while small.shape[2] > size[0]:
        small = Downsample2d().double()(small)
    features, kept = stem(x, image)
    torch.testing.assert_close(features, x + stem(None, small)[0])
    torch.testing.assert_close(kept, small)


def test_widths_and_sizes_that_do_not_fit_are_incompatible() -> None:
    with pytest.raises(IncompatibleError, match="the first stem has no features to take its width from; set dim"):
        FromRGB(3)
    with pytest.raises(IncompatibleError, match="8 channels cannot be added to 6; omit dim"):
        FromRGB(3, 6, dim=8)
    with pytest.raises(IncompatibleError, match="halving an image of 16x16 never gives the 5x5 of the features"):
        FromRGB(3, 6)(torch.randn(2, 6, 5, 5), torch.randn(2, 3, 16, 16))


def test_unit_range_images_are_converted_to_symmetric_range():
    stem, unit = FromRGB(3, dim=6, value_range="unit").double(), normal(2, 3, 4, 4).sigmoid()
    features, kept = stem(None, unit)
    symmetric = FromRGB(3, dim=6).double()
    symmetric.load_state_dict(stem.state_dict())
    torch.testing.assert_close(features, symmetric(None, 2 * unit - 1)[0])
    assert torch.equal(kept, unit)
