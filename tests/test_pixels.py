"""Conversions between bytes and the value ranges of generators."""

from __future__ import annotations

import pytest
import torch

from ganblocks.pixels import from_bytes, from_symmetric, to_bytes, to_symmetric


@pytest.mark.parametrize("value_range", ["symmetric", "unit", "imagenet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_survive_the_conversion_to_a_range_and_back(value_range, channels):
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, channels, -1, -1)
    values = from_bytes(pixels, value_range)
    assert torch.equal(to_bytes(values, value_range), pixels)
    torch.testing.assert_close(from_symmetric(to_symmetric(values, value_range), value_range), values)


def test_black_and_white_are_the_ends_of_each_range():
    ends = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert from_bytes(ends, "symmetric")[0, 0, 0].tolist() == [-1, 1]
    assert from_bytes(ends, "unit")[0, 0, 0].tolist() == [0, 1]
    red = from_bytes(ends, "imagenet")[0, 0, 0]
    torch.testing.assert_close(red, (torch.tensor([0.0, 1.0]) - 0.485) / 0.229)
    with pytest.raises(ValueError, match="value range"):
        from_bytes(ends, "bytes")
