"""Resampling modules: sizes, gain, padding, kernels, and the sum of images."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from blocks.common.resample import Blur2d, Downsample2d, SkipSum, Upsample2d, fir_kernel
from registry import recording, second_order
from tests.tensors import normal


def test_the_fastest_supported_kernels_are_chosen_with_second_order_too():
    upsample, blur = Upsample2d(), Blur2d(range(1, 13))
    with recording() as calls, second_order():
        upsample(torch.zeros(1, 3, 4, 4))
        blur(torch.zeros(1, 3, 14, 14))
        Downsample2d()(torch.zeros(1, 3, 4, 4))
    assert [name for _, name in calls] == ["linear", "separable", "linear"]


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_upsampling_is_bilinear_away_from_the_border(size):
    x = normal(2, 3, *size)
    bilinear = F.interpolate(x, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(Upsample2d()(x)[..., 1:-1, 1:-1], bilinear[..., 1:-1, 1:-1])


def test_odd_sides_are_rounded_down():
    assert Downsample2d()(normal(1, 2, 9, 12)).shape == (1, 2, 4, 6)


def test_downsampling_is_the_transpose_of_upsampling():
    x, y = normal(1, 2, 6, 10).requires_grad_(), normal(1, 2, 12, 20)
    (gradient,) = torch.autograd.grad((Upsample2d()(x) * y).sum(), x)
    torch.testing.assert_close(gradient, 4 * Downsample2d()(y))


@pytest.mark.parametrize("taps", [[1, 2, 1], [1, 3, 3, 1], [[1, 2, 3], [4, 5, 6]], list(range(1, 13))], ids=str)
def test_blur_keeps_the_size_and_the_mean(taps):
    x = torch.ones(1, 1, 26, 27)
    y = Blur2d(taps)(x)
    assert y.shape == x.shape
    torch.testing.assert_close(y[..., 8:-8, 8:-8], x[..., 8:-8, 8:-8])


def test_factors_can_differ_between_the_axes():
    assert Upsample2d((3, 2))(normal(1, 1, 5, 4)).shape == (1, 1, 10, 12)
    assert Downsample2d((2, 3))(normal(1, 1, 9, 12)).shape == (1, 1, 3, 6)


def test_the_filter_follows_the_dtype_and_is_not_in_the_state_dict():
    upsample = Upsample2d().to(torch.float64)
    assert upsample.filter.dtype == torch.float64
    assert not upsample.state_dict()
    assert fir_kernel([1, 3, 3, 1]).shape == (4, 4)
    assert fir_kernel(range(1, 13)).shape == (12,)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_skip_sum_upsamples_powers_of_two_with_the_filter(factor):
    so_far, image = normal(2, 3, 3, 5), normal(2, 3, 3 * factor, 5 * factor)
    expected = so_far
    for _ in range(int(math.log2(factor))):
        expected = Upsample2d()(expected)
    torch.testing.assert_close(SkipSum()(image, so_far), image + expected)


@pytest.mark.parametrize("size", [(9, 15), (6, 5), (4, 7), (6, 20)])
def test_skip_sum_interpolates_other_sizes(size):
    so_far, image = normal(2, 3, 3, 5), normal(2, 3, *size)
    bilinear = F.interpolate(so_far, size=size, mode="bilinear")
    torch.testing.assert_close(SkipSum()(image, so_far), image + bilinear)


def test_skip_sum_filters_before_it_shrinks():
    stripes = torch.tensor([1.0, -1.0]).repeat(1, 1, 16, 8)
    assert SkipSum()(torch.zeros(1, 1, 4, 4), stripes)[..., 1:-1].abs().max() < 0.1


def test_skip_sum_of_one_image_is_that_image():
    image = normal(1, 3, 4, 4)
    assert SkipSum()(image) is image
