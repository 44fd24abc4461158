"""The moving average of the generator's weights."""

from __future__ import annotations

import pytest
from torch import nn

from assemblies import EMA
from ganblocks.training import ema


def test_weights_are_copied_until_the_average_starts():
    average = EMA(half_life_kimg=1, ramp_up=None, start_kimg=2)
    assert [ema.decay(average, 100, images) for images in (0, 1900)] == [0, 0]
    assert ema.decay(average, 100, 2000) == pytest.approx(0.5**0.1)


def test_the_half_life_is_counted_in_images():
    assert ema.decay(EMA(half_life_kimg=1, ramp_up=None), 1000, 0) == 0.5
    assert ema.decay(EMA(half_life_kimg=1, ramp_up=None), 500, 0) == pytest.approx(0.5**0.5)
    assert ema.decay(EMA(half_life_kimg=1, ramp_up=0.1), 100, 1000) == 0.5  # half-life 100 images so far
    assert ema.decay(EMA(half_life_kimg=1, ramp_up=0.1), 100, 0) == 0.0
    assert ema.decay(EMA(half_life_kimg=0), 100, 1000) == 0.0


def test_parameters_are_averaged_and_buffers_copied():
    source, target = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(source.weight, 3.0)
    source.running_mean.fill_(5.0)
    ema.update(target, source, 0.75)
    assert target.weight.tolist() == [1.5, 1.5]
    assert target.running_mean.tolist() == [5.0, 5.0]
