"""Bilinear interpolation: all kernels agree, also in derivatives of any order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blocks.ops.grid_sample import grid_sample
from registry import KernelError, second_order
from tests.tensors import nondeterminism

pytestmark = pytest.mark.usefixtures("default_device")

KERNELS = pytest.mark.parametrize("kernel", grid_sample.kernels(), ids=lambda kernel: kernel.name)


def draw(height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    x = torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)
    relative = torch.rand(2, 4, 5, 2, generator=generator, dtype=torch.float64) * 1.4 - 0.2
    return x, relative * torch.tensor([width, height]) - 0.5


@KERNELS
def test_whole_pixels_are_copied_and_the_outside_is_zero(kernel) -> None:
    x, _ = draw(4, 6)
    points = torch.tensor([[0, 0], [5, 3], [2, 1], [-1, 0], [6, 2], [1.5, 0]], dtype=torch.float64)
    values = kernel.run(x, points.expand(2, 1, -1, -1))[:, :, 0]
    between = (x[:, :, 0, 1] + x[:, :, 0, 2]) / 2
    expected = torch.stack([x[:, :, 0, 0], x[:, :, 3, 5], x[:, :, 1, 2], *[x[:, :, 0, 0] * 0] * 2, between], dim=2)
    torch.testing.assert_close(values, expected)


@KERNELS
@pytest.mark.parametrize("size", [(7, 9), (8, 8), (1, 5), (1, 1)])
def test_every_kernel_agrees_with_the_reference_in_value_and_derivatives(kernel, size) -> None:
    x, coordinates = draw(*size)
    x.requires_grad_()

    def derivatives(kernel) -> tuple[Tensor, Tensor, Tensor]:
        y = kernel.run(x, coordinates)
        (first,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(2).sum(), x)
        return y, first, second

    torch.testing.assert_close(derivatives(kernel), derivatives(grid_sample.reference))


@pytest.mark.parametrize("kernel", ["linear", "reference"])
def test_kernels_are_twice_differentiable(kernel: str) -> None:
    x, coordinates = draw(4, 5)
    x.requires_grad_()
    with second_order():
        sample = grid_sample.bind(kernel)
        assert torch.autograd.gradgradcheck(lambda x: sample(x, coordinates), x, nondet_tol=nondeterminism())


def test_only_the_reference_has_gradients_of_the_coordinates() -> None:
    x, coordinates = draw(4, 5)
    with pytest.raises(KernelError, match="computes no gradient of the coordinates"):
        grid_sample(x, coordinates.requires_grad_(), kernel="linear")
    assert torch.autograd.grad(grid_sample(x, coordinates).sum(), coordinates)[0].abs().max() > 0
