"""Fourier features: frequencies, translation, rotation."""

from __future__ import annotations

import math

import pytest
import torch

from blocks.synthesis_input.fourier_features import FourierFeatures
from registry import IncompatibleError
from tests.tensors import normal

STYLES = normal(2, 1, 12, seed=1)


def features(**options: object) -> FourierFeatures:
    torch.manual_seed(0)
    return FourierFeatures(12, **{"dim": 16, "resolution": (6, 9)} | options).double()


def transformed(right: float = 0.0, down: float = 0.0, angle: float = 0.0) -> FourierFeatures:
    block = features()
    t = torch.tensor([math.cos(angle), math.sin(angle), right, down], dtype=torch.float64)
    block.affine.bias = torch.nn.Parameter(t)
    return block


def test_frequencies_are_uniform_on_a_disc():
    radii = features(dim=4000, bandwidth=3.0).freqs.norm(dim=1)
    assert radii.max() <= 3
    for fraction in (0.25, 0.5, 0.75):
        assert radii.quantile(fraction).item() == pytest.approx(3 * math.sqrt(fraction), rel=0.05)


def test_the_style_translates_the_map():
    still = transformed()(STYLES)
    torch.testing.assert_close(transformed(right=1 / 8)(STYLES)[..., 1:], still[..., :-1])  # 8 pixels per unit
    torch.testing.assert_close(transformed(down=2 / 8)(STYLES)[..., 2:, :], still[..., :-2, :])


def test_the_style_rotates_the_map():
    torch.testing.assert_close(transformed(angle=math.pi)(STYLES), transformed()(STYLES).flip(2, 3))


def test_the_map_does_not_depend_on_the_style_at_init():
    x = features()(STYLES)
    torch.testing.assert_close(x[0], x[1])


def test_a_bandwidth_above_half_the_sampling_rate_is_incompatible():
    with pytest.raises(
        IncompatibleError, match="a bandwidth of 4 is not below half of the sampling rate 8; take less than 4"
    ):
        FourierFeatures(12, bandwidth=4)
