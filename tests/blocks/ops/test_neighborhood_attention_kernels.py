"""Neighborhood attention: every kernel against the reference, and the reference against the papers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blocks.ops.attention import attention, relative_bias
from blocks.ops.neighborhood_attention import neighborhood_attention
from blocks.ops.neighborhood_attention.reference import window_logits
from registry import Kernel, KernelError, recording, second_order

TOLERANCE = {
    torch.float64: dict(rtol=1e-10, atol=1e-12),
    torch.float32: dict(rtol=1e-4, atol=1e-5),
    torch.bfloat16: dict(rtol=2e-2, atol=2e-2),
}

AVAILABLE = [kernel for kernel in neighborhood_attention.kernels() if kernel.unavailable() is None]

ANYWAVAILABLE = [kernel for kernel in AVAILABLE if kernel.name in {"reference", "masked", "tiled", "tiled-math"}]

KERNELS = pytest.mark.parametrize("kernel", AVAILABLE, ids=lambda kernel: kernel.name)

OWN_KERNELS = pytest.mark.parametrize("kernel", ANYWAVAILABLE, ids=lambda kernel: kernel.name)

WINDOWS = pytest.mark.parametrize(("kernel_size", "dilation"), [(3, 1), (5, 2), (3, 3), (7, 1)])


def draw(*shape: int, kernel_size: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    bias = torch.randn(shape[3], 2 * kernel_size - 1, 2 * kernel_size - 1, generator=generator, dtype=torch.float64)
    return q, k, v, bias


def skip_if_unsupported(kernel: Kernel, *tensors: Tensor, **window: object) -> None:
    reasons = [kernel.unavailable()] if kernel.unavailable() else kernel.unsupported(*tensors, **window)
    if reasons:
        pytest.skip("; ".join(map(str, reasons)))


@KERNELS
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("with_bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize(("height", "width"), [(10, 14), (13, 11)])
@WINDOWS
def test_every_kernel_agrees_with_the_reference(kernel, dtype, with_bias, height, width, kernel_size, dilation):
    *qkv, bias = (x.to(dtype) for x in draw(2, height, width, 3, 4, kernel_size=kernel_size))
    call = dict(kernel_size=kernel_size, dilation=dilation, bias=bias if with_bias else None, scale=0.4)
    skip_if_unsupported(kernel, *qkv, **call)
    actual = kernel.run(*qkv, **call)
    assert actual.dtype == dtype
    exact = dict(call, bias=bias.double() if with_bias else None)
    expected = neighborhood_attention(*(x.double() for x in qkv), kernel="reference", **exact)
    torch.testing.assert_close(actual.double(), expected, **TOLERANCE[dtype])


@KERNELS
@WINDOWS
def test_every_kernel_has_the_gradients_of_the_reference(kernel, kernel_size, dilation):
    def gradients(kernel: Kernel) -> tuple[Tensor, ...]:
        leaves = [x.float().requires_grad_() for x in draw(2, 10, 14, 2, 4, kernel_size=kernel_size)]
        call = dict(kernel_size=kernel_size, dilation=dilation, bias=leaves[3])
        skip_if_unsupported(kernel, *leaves[:3], **call)
        return torch.autograd.grad(kernel.run(*leaves[:3], **call).square().sum(), leaves)

    for actual, expected in zip(gradients(kernel), gradients(neighborhood_attention.reference), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@KERNELS
@pytest.mark.parametrize(("height", "width", "dilation"), [(3, 5, 1), (6, 7, 2)])
def test_second_order_kernels_have_second_derivatives(kernel, height, width, dilation):
    if not kernel.second_order:
        pytest.skip("has no second derivative")
    leaves = [x.requires_grad_() for x in draw(1, height, width, 2, 2, kernel_size=3)]

    def run(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return kernel.run(q, k, v, kernel_size=3, dilation=dilation, bias=bias)

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)


@OWN_KERNELS
def test_a_window_of_the_size_of_the_map_gives_dense_attention(kernel):
    q, k, v, bias = draw(2, 5, 5, 3, 4, kernel_size=5)
    distance = torch.arange(5) - torch.arange(5)[:, None] + 4
    flat = [x.flatten(1, 2).transpose(1, 2) for x in (q, k, v)]
    expected = attention(*flat, bias=relative_bias(bias, distance, distance), kernel="reference")
    actual = kernel.run(q, k, v, kernel_size=5, bias=bias)
    torch.testing.assert_close(actual, expected.transpose(1, 2).unflatten(1, (5, 5)))


@OWN_KERNELS
def test_dilation_d_is_attention_among_every_dth_pixel(kernel):
    q, k, v, bias = draw(1, 11, 13, 2, 4, kernel_size=3)
    expected = torch.empty_like(q)
    for y in range(3):
        for x in range(3):
            group = (slice(None), slice(y, None, 3), slice(x, None, 3))
            expected[group] = kernel.run(q[group], k[group], v[group], kernel_size=3, bias=bias)
    torch.testing.assert_close(kernel.run(q, k, v, kernel_size=3, dilation=3, bias=bias), expected)


@OWN_KERNELS
def test_windows_at_the_border_are_moved_inwards(kernel):
    column = torch.arange(9.0).expand(1, 7, 9)[..., None, None]
    same = torch.zeros_like(column)
    mean = kernel.run(same, same, column, kernel_size=5)[0, :, :, 0, 0]
    torch.testing.assert_close(mean, torch.tensor([2.0, 2, 2, 3, 4, 5, 6, 6, 6]).expand(7, 9))


@OWN_KERNELS
def test_the_bias_is_indexed_by_key_minus_query_in_units_of_the_dilation(kernel):
    column = torch.arange(12.0).expand(1, 6, 12)[..., None, None]
    same, bias = torch.zeros_like(column), torch.zeros(1, 5, 5)
    bias[:, :, 3] = 100.0  # one step to the right
    attended = kernel.run(same, same, column, kernel_size=3, dilation=2, bias=bias)[0, :, :, 0, 0]
    last_of_its_group = torch.tensor([6.0 + 2, 7 + 2])  # without a neighbour to the right: the mean of the window
    expected = torch.cat([torch.arange(2.0, 12.0), last_of_its_group])
    torch.testing.assert_close(attended, expected.expand(6, 12))


@OWN_KERNELS
@pytest.mark.parametrize(
    ("window", "message"),
    [
        (dict(kernel_size=9), "1 x 9 does not fit on 8 pixels"),
        (dict(kernel_size=3, dilation=3), "3 x 3 does not fit on 8 pixels"),
        (dict(kernel_size=4), "kernel_size 4 is even"),
    ],
)
def test_windows_that_do_not_fit_raise(kernel, window, message):
    q = torch.zeros(1, 12, 8, 1, 2)
    with pytest.raises(ValueError, match=message):
        kernel.run(q, q, q, **window)


def test_logits_have_one_entry_for_each_pixel_of_the_window():
    q, k, _, bias = draw(2, 6, 7, 3, 4, kernel_size=3)
    assert window_logits(q, k, kernel_size=3, dilation=2, bias=bias).shape == (2, 3, 6, 7, 9)


@pytest.mark.parametrize(
    ("side", "kernel_size", "name"), [(8, 7, "masked"), (33, 7, "tiled-math"), (25, 3, "tiled-math")]
)
def test_small_maps_are_masked_and_large_ones_tiled(side, kernel_size, name):
    q = torch.zeros(1, side, side, 1, 1)
    with recording() as ran, second_order():
        neighborhood_attention(q, q, q, kernel_size=kernel_size)
    assert ran == [("neighborhood_attention", name)]
    if name != "masked":
        with pytest.raises(KernelError, match=f"masked: compares all pixels with each other: up to 400 px"):
            neighborhood_attention(q, q, q, kernel_size=kernel_size, kernel="masked")
