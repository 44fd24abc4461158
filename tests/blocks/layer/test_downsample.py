"""Downsampling layers."""

from __future__ import annotations

import pytest

from blocks.layer.downsample import Downsample
from registry import IncompatibleError
from tests.tensors import normal


def test_odd_sides_are_rounded_down() -> None:
    assert Downsample((9, 12))(normal(1, 2, 9, 12)).shape == (1, 2, 4, 6)


def test_sizes_that_cannot_be_halved_are_incompatible():
    with pytest.raises(IncompatibleError, match="9x12 pixels do not split into squares of 2x2; take method: fir"):
        Downsample((9, 12), method="average")
    with pytest.raises(IncompatibleError, match="a map of 1x4 pixels cannot be halved"):
        Downsample((1, 4))
