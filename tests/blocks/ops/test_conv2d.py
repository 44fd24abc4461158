"""Convolution: Winograd's kernel agrees with PyTorch's in value and derivatives on every map that it supports."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blocks.common.equalized import EqualConv2d
from blocks.common.weight_cache import WeightCache, frozen_weights
from blocks.ops.conv2d import conv2d
from blocks.ops.conv2d import winograd as module
from blocks.ops.conv2d.winograd import SOURCE, Winograd, transform_weight
from blocks.ops.modulated_conv2d import modulated_conv2d
from registry import recording, second_order

LANES = {torch.float32: 16, torch.float64: 8}
TOLERANCE = {torch.float64: dict(rtol=1e-11, atol=1e-11), torch.float32: dict(rtol=1e-4, atol=2e-4)}
LAYOUTS = {  # memory layouts of a map [B,C,H,W]
    "channels-first": lambda x: x,
    "channels-last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "part": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
    "mirrored": lambda x: x.mT.contiguous().mT,
}
winograd = Winograd()


@pytest.fixture(autouse=True)
def _compiled() -> None:
    if reason := winograd.unavailable():
        pytest.skip(reason)


@st.composite
def calls(draw: st.DrawFn) -> dict[str, object]:
    dtype, padding = draw(st.sampled_from(list(LANES))), draw(st.integers(0, 2))
    sides = st.integers(max(1, 3 - 2 * padding), 12)
    channels = st.integers(1, 3).map(lambda number: number * LANES[dtype])
    return dict(
        shape=(draw(st.integers(1, 3)), draw(channels), draw(sides), draw(sides)),
        out_channels=draw(channels),
        dtype=dtype,
        padding=padding,
        layout=draw(st.sampled_from(list(LAYOUTS))),
        with_bias=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
    )


def leaves(shape, out_channels, with_bias, dtype=torch.float64, layout="channels-last", seed=0) -> list[Tensor]:
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    tensors = [
        torch.randn(each, generator=generator, dtype=torch.float64).to(dtype)
        for each in (shape, (out_channels, shape[1], 3, 3), (out_channels,))
    ]
    tensors[0] = LAYOUTS[layout](tensors[0])
    return [x.detach().requires_grad_() for x in tensors[: 2 + with_bias]]


@settings(max_examples=60, deadline=None)
@given(calls())
def test_values_and_gradients_are_those_of_the_plain_convolution(call):
    padding = call.pop("padding")
    tensors = leaves(**call)
    expected = conv2d.reference.run(*(x.double() for x in tensors), padding=padding)
    actual = winograd.run(*tensors, padding=padding)
    torch.testing.assert_close(actual.double(), expected, **TOLERANCE[call["dtype"]])
    direction = torch.randn(
        expected.shape, generator=torch.Generator(torch.get_default_device()).manual_seed(1), dtype=torch.float64
    )
    expected_gradients = torch.autograd.grad(expected, tensors, direction)
    gradients = torch.autograd.grad(actual, tensors, direction.to(actual.dtype))
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected, **TOLERANCE[call["dtype"]])


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_it_can_be_differentiated_twice(padding):
    tensors = leaves((2, 8, 3, 4), 8, True)

    def run(*tensors: Tensor) -> Tensor:
        return winograd.run(*tensors, padding=padding)

    assert torch.autograd.gradcheck(run, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, tensors, fast_mode=True)


def test_the_third_derivative_is_that_of_the_plain_convolution():
    x, weight = leaves((1, 8, 4, 4), 8, False)
    gradients = []
    for kernel in (winograd, conv2d.reference):
        y = kernel.run(x, weight, padding=1).pow(3).sum()
        for _ in range(2):
            (gradient,) = torch.autograd.grad(y, x, create_graph=True)
            y = gradient.square().sum()
        gradients.append(torch.autograd.grad(y, weight)[0])
    torch.testing.assert_close(*gradients)


def kernel_of(x: Tensor, weight: Tensor, **options: int) -> str:
    with recording() as ran:
        conv2d(x, weight, **options)
    return ran[0][1]


def test_it_is_chosen_only_where_it_pays_off():
    x, weight = torch.randn(2, 64, 16, 16), torch.randn(64, 64, 3, 3)
    with torch.no_grad():
        assert kernel_of(x, weight, padding=1) == "winograd"
        assert kernel_of(x[:1], weight, padding=1) == "reference"  # 64 tiles
        with frozen_weights():  # the weight is transformed only once
            assert kernel_of(x[:1], weight, padding=1) == "winograd"
        for other, kernel, options in (
            (x, weight, {"padding": 1, "stride": 2}),
            (x, weight, {"padding": 3}),
            (x, weight[:, :, :1, :1], {}),
            (x, weight[:, :32], {"padding": 1, "groups": 2}),
            (x[:, :24], weight[:, :24], {"padding": 1}),
            (x[:, :16], weight[:16, :16], {"padding": 1}),
            (x.bfloat16(), weight.bfloat16(), {"padding": 1}),
        ):
            assert kernel_of(other, kernel, **options) == "reference"
        with torch.autocast("cpu", torch.bfloat16):
            assert conv2d(x, weight, padding=1).dtype == torch.bfloat16


def test_it_is_chosen_in_second_order_mode_too():
    x, weight = torch.randn(2, 64, 16, 16, requires_grad=True), torch.randn(64, 64, 3, 3, requires_grad=True)
    with second_order(), recording() as ran:
        y = conv2d(x, weight, padding=1)
    assert ran == [("conv2d", "winograd")]
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert weight.grad is not None


def test_a_1x1_kernel_is_a_matrix_product_where_a_gradient_is_differentiated():
    x, weight = torch.randn(2, 8, 5, 6).contiguous(memory_format=torch.channels_last), torch.randn(4, 8, 1, 1)
    assert kernel_of(x, weight) == "reference"
    with second_order():
        assert kernel_of(x, weight) == "pointwise"
        assert kernel_of(x.contiguous(), weight) == "reference"
        assert kernel_of(x, weight, stride=2) == "reference"
        assert conv2d(x, weight).is_contiguous(memory_format=torch.channels_last)


def test_with_frozen_weights_the_backward_pass_uses_the_adjoint_transform():
    x, weight = (each.requires_grad_(i == 0) for i, each in enumerate(leaves((2, 8, 6, 6), 8, False)))
    gradients = []
    for kernel in (winograd, conv2d.reference):
        with frozen_weights():
            with torch.no_grad():
                kernel.run(x, weight, padding=1)
            gradients.append(torch.autograd.grad(kernel.run(x, weight, padding=1).square().sum(), x)[0])
    torch.testing.assert_close(*gradients)


def test_only_small_transforms_are_cached(monkeypatch):
    transformed = []
    monkeypatch.setattr(
        module, "cached_transform_weight", WeightCache(lambda *of: transformed.append(of) or transform_weight(*of))
    )
    x, weight = torch.randn(1, 16, 6, 6), torch.randn(16, 16, 3, 3)
    for budget, times in (("1", 1), ("0", 0)):
        monkeypatch.setenv("GANBLOCKS_WEIGHT_CACHE", budget)
        transformed.clear()
        with torch.no_grad(), frozen_weights():
            first, second = (winograd.run(x, weight, padding=1) for _ in range(2))
        assert torch.equal(first, second)
        assert len(transformed) == times


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_result_does_not_depend_on_the_number_of_threads(threads):
    x, weight = (each.detach() for each in leaves((3, 16, 9, 14), 8, False))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = winograd.run(x, weight, padding=1)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(y, conv2d.reference.run(x, weight, padding=1))


def test_equalized_convolutions_use_it():
    block = EqualConv2d(64, 64, 3, activation="lrelu")
    with recording() as ran:
        block(torch.randn(2, 64, 16, 16))
    assert ran == [("conv2d", "winograd")]


def test_modulated_convolutions_use_it():
    x, weight, style = torch.randn(2, 64, 16, 16), torch.randn(64, 64, 3, 3), torch.rand(2, 64) + 0.5
    with recording() as ran:
        y = modulated_conv2d(x, weight, style)
    assert [call for call in ran if call[0] != "bias_act"] == [("modulated_conv2d", "scaled"), ("conv2d", "winograd")]
    expected = modulated_conv2d.reference.run(x.double(), weight.double(), style.double())
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-5)


def test_torch_compile_traces_the_plain_convolution():
    block = EqualConv2d(64, 64, 3)
    x = torch.randn(2, 64, 16, 16)
    torch.testing.assert_close(torch.compile(block, fullgraph=True, backend="eager")(x), block(x), rtol=1e-4, atol=1e-5)


def test_the_source_is_part_of_the_package():
    assert SOURCE.exists()
