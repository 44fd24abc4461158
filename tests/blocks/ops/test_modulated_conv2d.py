"""Modulated convolution: every kernel agrees with the reference in every option, and is twice differentiable."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blocks.common.resample import Upsample2d, fir_kernel
from blocks.ops.modulated_conv2d import modulated_conv2d
from registry import recording, second_order
from tests.tensors import nondeterminism

pytestmark = pytest.mark.usefixtures("default_device")

KERNELS = pytest.mark.parametrize("kernel", modulated_conv2d.kernels(), ids=lambda kernel: kernel.name)
FIR = fir_kernel((1.0, 3.0, 3.0, 1.0)).double()
OPTIONS = [
    {"up": up, "filter": filter, "demodulate": demodulate, "flip_kernel": flip_kernel}
    for up, filter, demodulate, flip_kernel in itertools.product((1, 2), (None, FIR), (True, False), (True, False))
]


def draw(size: int = 3, batch: int = 2, shape: tuple[int, int] = (4, 5)) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    shapes = ((batch, 4, *shape), (3, 4, size, size), (batch, 4))
    x, weight, style = (torch.randn(each, generator=generator, dtype=torch.float64) for each in shapes)
    return x, weight, style + 1


def option_id(options: dict[str, object]) -> str:
    return "-".join(str(value if not isinstance(value, Tensor) else "fir") for value in options.values())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [1, 3])
def test_the_reference_is_a_convolution_by_each_samples_weight(size, batch):
    x, weight, style = draw(size, batch)
    for demodulate in (False, True):
        expected = []
        for image, factors in zip(x, style, strict=True):
            weights = weight * factors[:, None, None]
            if demodulate:
                weights = weights / (weights.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
            expected.append(F.conv2d(image[None], weights, padding=size // 2))
        actual = modulated_conv2d.reference.run(x, weight, style, demodulate=demodulate)
        torch.testing.assert_close(actual, torch.cat(expected))


def test_the_reference_upsamples_before_it_convolves():
    x, weight, style = draw(1)
    upsampled = Upsample2d()(x)
    actual = modulated_conv2d.reference.run(x, weight, style, up=2, filter=FIR)
    torch.testing.assert_close(actual, modulated_conv2d.reference.run(upsampled, weight, style))


@KERNELS
@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
@pytest.mark.parametrize("size", [1, 3, 5])
def test_every_kernel_agrees_with_the_reference_in_value_and_gradients(kernel, options, size):
    tensors = [x.requires_grad_() for x in draw(size)]
    actual, expected = (each.run(*tensors, **options) for each in (kernel, modulated_conv2d.reference))
    assert actual.shape[2:] == (4 * options["up"], 5 * options["up"])
    torch.testing.assert_close(actual, expected)
    direction = torch.randn(
        expected.shape, generator=torch.Generator(torch.get_default_device()).manual_seed(1), dtype=torch.float64
    )
    gradients, expected_gradients = (torch.autograd.grad(y, tensors, direction) for y in (actual, expected))
    torch.testing.assert_close(gradients, expected_gradients)


@KERNELS
def test_padding_can_be_chosen(kernel):
    tensors = draw(3)
    for padding, up in itertools.product((0, 2), (1, 2)):
        actual, expected = (
            each.run(*tensors, padding=padding, up=up, filter=FIR) for each in (kernel, modulated_conv2d.reference)
        )
        torch.testing.assert_close(actual, expected)


@KERNELS
@pytest.mark.parametrize("options", [{}, {"up": 2, "filter": FIR}], ids=["plain", "up"])
def test_every_kernel_can_be_differentiated_twice(kernel, options):
    tensors = [x.requires_grad_() for x in draw(3, shape=(2, 3))]
    with second_order():
        assert torch.autograd.gradgradcheck(
            lambda *args: kernel.run(*args, **options), tensors, fast_mode=True, nondet_tol=nondeterminism()
        )


@KERNELS
def test_half_precision_does_not_overflow(kernel):
    x, weight, style = (tensor.half() for tensor in draw(3))
    expected = modulated_conv2d.reference.run(*(tensor.double() for tensor in (x, weight, style)))
    actual = kernel.run(x, weight * 200, style * 300)
    torch.testing.assert_close(actual.double(), expected, rtol=2e-2, atol=2e-2)


@KERNELS
@pytest.mark.parametrize("dynamic", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["static", "dynamic"])
def test_every_kernel_can_be_traced(kernel, dynamic):
    convolve = modulated_conv2d.bind(kernel.name)
    filter = FIR.float()

    def run(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
        return convolve(x, weight, style, up=2, filter=filter)

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for shape in ((4, 5), (6, 3)) if dynamic else ((4, 5),):
        tensors = [tensor.float() for tensor in draw(3, shape=shape)]
        torch.testing.assert_close(compiled(*tensors), run(*tensors), rtol=1e-4, atol=1e-5)


@KERNELS
def test_shapes_can_be_inferred(kernel):
    x, weight, style = (tensor.to("meta") for tensor in draw(3))
    assert kernel.run(x, weight, style, up=2, filter=FIR.to("meta")).shape == (2, 3, 8, 10)


def test_the_resampling_op_is_recorded_too():
    with recording() as ran:
        modulated_conv2d(*draw(3), up=2, filter=FIR)
    assert [op for op, _ in ran if op != "bias_act"] == ["modulated_conv2d", "upfirdn2d"]


@pytest.mark.parametrize("options", OPTIONS, ids=option_id)
def test_a_single_sample_with_a_large_map_agrees_with_the_reference(options):
    leaves = [each.requires_grad_() for each in draw(batch=1, shape=(25, 26))]
    scaled = next(kernel for kernel in modulated_conv2d.kernels() if kernel.name == "scaled")
    results = [kernel.run(*leaves, **options) for kernel in (scaled, modulated_conv2d.reference)]
    torch.testing.assert_close(*results)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), leaves) for y in results))
