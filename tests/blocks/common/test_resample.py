"""Resampling against its definition in float64, by every kernel; positions; the steps between resolutions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blocks.common.position import SinusoidalGrid
from blocks.common.resample import Blur2d, Downsample2d, SkipSum, Upsample2d, fir_kernel
from blocks.layer.downsample import Downsample
from blocks.layer.upsample import Upsample
from blocks.layer.upsample_linear import UpsampleLinear
from blocks.ops.upfirdn2d import pair, upfirdn2d
from registry import IncompatibleError, KernelError, recording, second_order

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}
CALLS = [
    {},
    {"up": 2, "padding": (2, 1, 2, 1), "gain": 4.0},
    {"down": 2, "padding": (1, 1, 1, 1)},
    {"up": (3, 2), "padding": (5, 0, 7, 9)},
    {"up": (1, 3), "padding": (2, 0, -1, 2), "flip_filter": True},
    {"up": (2, 3), "down": (3, 2), "padding": (4, -1, 3, 1), "gain": 1.5},
    {"down": (2, 3), "padding": (3, 3, 3, 3), "flip_filter": True},
]
FILTERS = {
    "short": torch.tensor([1.0, 3.0, 2.0]),
    "long": torch.arange(1.0, 10.0),
    "flat": torch.tensor([[1.0, 2.0, 0.5, -1.0], [3.0, 1.0, 4.0, 2.0], [0.5, 5.0, 1.0, 2.0]]),
}


def definition(x: Tensor, taps: Tensor, up=1, down=1, padding=(0, 0, 0, 0), gain=1.0, flip_filter=False) -> Tensor:
    """Zeros between pixels, zeros around them, and for each tap the map shifted by it."""
    (up_x, up_y), (down_x, down_y) = pair(up), pair(down)
    taps = torch.outer(taps, taps) if taps.ndim == 1 else taps
    taps = taps.flip(0, 1) if flip_filter else taps
    between = x.new_zeros(*x.shape[:2], x.shape[2] * up_y, x.shape[3] * up_x)
    between[:, :, ::up_y, ::up_x] = x
    around = F.pad(between, padding)
    (tall, wide), (height, width) = taps.shape, around.shape[2:]
    y = sum(
        taps[a, b] * around[:, :, tall - 1 - a : height - a, wide - 1 - b : width - b]
        for a in range(tall)
        for b in range(wide)
    )
    return gain * y[:, :, ::down_y, ::down_x]


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("kernel", upfirdn2d.kernels(), ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("taps", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_every_kernel_computes_the_definition(kernel, dtype, taps, call):
    x = normal(2, 2, 11, 10, dtype=dtype)
    if reasons := kernel.unsupported(x, taps, **call):
        pytest.skip("; ".join(reasons))
    expected = definition(x.double(), taps.double(), **call)
    y = kernel.run(x, taps, **call)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=TOLERANCE[dtype] * expected.abs().max().item())


@pytest.mark.parametrize("kernel", upfirdn2d.kernels(), ids=lambda kernel: kernel.name)
def test_every_kernel_has_second_derivatives(kernel):
    assert kernel.second_order
    taps = FILTERS["long"] if kernel.name == "separable" else FILTERS["flat"]
    x = normal(1, 2, 5, 4).requires_grad_()

    def run(x: Tensor) -> Tensor:
        return kernel.run(x, taps, up=2, padding=(4, 4, 4, 4)).sin()  # a linear map alone would have none

    assert torch.autograd.gradcheck(run, x)
    assert torch.autograd.gradgradcheck(run, x)


def test_a_kernel_that_cannot_serve_a_call_says_why():
    bound = upfirdn2d.bind("transposed")
    with pytest.raises(KernelError, match="only upsamples; needs a filter of two dimensions"):
        bound(normal(1, 1, 4, 4), FILTERS["short"], down=2)


def test_the_faster_kernels_are_taken_where_they_can_also_under_penalties():
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


def test_downsampling_halves_odd_sizes_downwards():
    assert Downsample2d()(normal(1, 2, 9, 12)).shape == (1, 2, 4, 6)
    assert Downsample((9, 12))(normal(1, 2, 9, 12)).shape == (1, 2, 4, 6)


def test_downsampling_is_the_transpose_of_upsampling():
    x, y = normal(1, 2, 6, 10).requires_grad_(), normal(1, 2, 12, 20)
    (gradient,) = torch.autograd.grad((Upsample2d()(x) * y).sum(), x)
    torch.testing.assert_close(gradient, 4 * Downsample2d()(y))


@pytest.mark.parametrize("taps", [[1, 2, 1], [1, 3, 3, 1], [[1, 2, 3], [4, 5, 6]], list(range(1, 13))], ids=str)
def test_a_blur_keeps_size_and_brightness(taps):
    x = torch.ones(1, 1, 26, 27)
    y = Blur2d(taps)(x)
    assert y.shape == x.shape
    torch.testing.assert_close(y[..., 8:-8, 8:-8], x[..., 8:-8, 8:-8])


def test_an_unequal_factor_has_its_own_padding_on_each_axis():
    assert Upsample2d((3, 2))(normal(1, 1, 5, 4)).shape == (1, 1, 10, 12)
    assert Downsample2d((2, 3))(normal(1, 1, 9, 12)).shape == (1, 1, 3, 6)


def test_the_filter_goes_with_the_module_but_not_into_its_state():
    upsample = Upsample2d().to(torch.float64)
    assert upsample.filter.dtype == torch.float64
    assert not upsample.state_dict()
    assert fir_kernel([1, 3, 3, 1]).shape == (4, 4)
    assert fir_kernel(range(1, 13)).shape == (12,)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_a_skip_takes_powers_of_two_by_the_filter(factor):
    so_far, image = normal(2, 3, 3, 5), normal(2, 3, 3 * factor, 5 * factor)
    expected = so_far
    for _ in range(int(math.log2(factor))):
        expected = Upsample2d()(expected)
    torch.testing.assert_close(SkipSum()(image, so_far), image + expected)


@pytest.mark.parametrize("size", [(9, 15), (6, 5), (4, 7), (6, 20)])
def test_a_skip_interpolates_between_other_sizes(size):
    so_far, image = normal(2, 3, 3, 5), normal(2, 3, *size)
    bilinear = F.interpolate(so_far, size=size, mode="bilinear")
    torch.testing.assert_close(SkipSum()(image, so_far), image + bilinear)


def test_a_skip_that_shrinks_keeps_fine_stripes_out():
    stripes = torch.tensor([1.0, -1.0]).repeat(1, 1, 16, 8)
    assert SkipSum()(torch.zeros(1, 1, 4, 4), stripes)[..., 1:-1].abs().max() < 0.1


def test_a_skip_of_nothing_is_the_image():
    image = normal(1, 3, 4, 4)
    assert SkipSum()(image) is image


def test_positions_are_sines_then_cosines_of_columns_then_rows():
    grid = SinusoidalGrid(24, (6, 10))().double()
    for t, place in enumerate(grid[0, :, :12], start=1):
        angles = torch.tensor([t * 10000 ** (-m / 5) for m in range(6)], dtype=torch.float64)
        torch.testing.assert_close(place, torch.cat([angles.sin(), angles.cos()]), rtol=0, atol=2e-6)
    assert torch.equal(grid[:, 0, 12:], grid[0, :6, :12])
    assert torch.equal(grid[0, :, :12], grid[5, :, :12])
    assert torch.equal(grid[:, 0, 12:], grid[:, 9, 12:])


def test_upsample_linear_starts_without_positions_and_may_learn_them():
    block = UpsampleLinear(6, (3, 5), dim=8)
    shifted = block(torch.zeros(1, 6, 3, 5))
    assert shifted.abs().max() == 0
    torch.nn.init.ones_(block.alpha)
    torch.testing.assert_close(block(torch.zeros(1, 6, 3, 5))[0], SinusoidalGrid(8, (6, 10))().permute(2, 0, 1))


@pytest.mark.parametrize("dim", [4, 10, 13])
def test_upsample_linear_says_which_widths_have_positions(dim):
    with pytest.raises(IncompatibleError, match=f"{dim} channels do not split into sines and cosines"):
        UpsampleLinear(6, (3, 5), dim=dim)
    with pytest.raises(IncompatibleError):
        UpsampleLinear(dim, (3, 5))  # as many as come in


def test_upsample_linear_keeps_channels_last_memory():
    x = torch.randn(2, 6, 3, 5).contiguous(memory_format=torch.channels_last)
    assert UpsampleLinear(6, (3, 5), dim=8)(x).is_contiguous(memory_format=torch.channels_last)


def test_downsampling_says_what_it_cannot_halve():
    with pytest.raises(IncompatibleError, match="9 x 12 pixels do not split into squares of 2 x 2; take method fir"):
        Downsample((9, 12), method="average")
    with pytest.raises(IncompatibleError, match="a map of 1 x 4 pixels has no half"):
        Downsample((1, 4))


def test_bilinear_upsampling_repeats_the_border_and_the_filter_has_zeros_there():
    ones = torch.ones(1, 1, 3, 3)
    assert Upsample(method="bilinear")(ones).min() == 1
    assert Upsample(method="fir")(ones)[0, 0, 0, 0] == 0.75**2
