"""Value ranges: conversions to and from [-1,1], of RGB and of grey images."""

from __future__ import annotations

import pytest
import torch

from blocks.common.images.value_range import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    from_symmetric,
    in_symmetric,
    normalization_scale,
    normalization_shift,
    to_symmetric,
)
from tests.tensors import normal

RANGES = ["symmetric", "unit", "imagenet"]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("value_range", RANGES)
def test_conversions_are_inverse(value_range: str, channels: int) -> None:
    images = normal(2, channels, 3, 4)
    torch.testing.assert_close(to_symmetric(from_symmetric(images, value_range), value_range), images)


def test_each_range_is_its_formula() -> None:
    images = normal(2, 3, 3, 4)
    unit = (images + 1) / 2
    mean, std = (torch.tensor(each, dtype=torch.float64)[:, None, None] for each in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(from_symmetric(images, "unit"), unit)
    torch.testing.assert_close(from_symmetric(images, "imagenet"), (unit - mean) / std)
    grey = from_symmetric(images[:, :1], "imagenet")
    torch.testing.assert_close(grey, (unit[:, :1] - mean.mean()) / std.mean())
    scale, shift = (each(IMAGENET_MEAN, IMAGENET_STD) for each in (normalization_scale, normalization_shift))
    torch.testing.assert_close(images * scale.double() + shift.double(), (unit - mean) / std, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("value_range", RANGES)
def test_a_function_of_symmetric_images_is_applied_in_any_range(value_range: str) -> None:
    images = normal(2, 3, 3, 4)
    result = in_symmetric(lambda x: x.flip(3) / 2, from_symmetric(images, value_range), value_range)
    torch.testing.assert_close(to_symmetric(result, value_range), images.flip(3) / 2)


@pytest.mark.parametrize("convert", [from_symmetric, to_symmetric])
def test_an_unknown_range_is_refused(convert: object) -> None:
    with pytest.raises(ValueError, match="unknown value range 'bytes'; valid: symmetric, unit, imagenet"):
        convert(normal(1, 3, 2, 2), "bytes")  # type: ignore[operator]
