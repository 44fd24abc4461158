"""Reading maps between their pixels: all kernels agree, also in derivatives of any order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blocks.ops.grid_sample import grid_sample
from registry import KernelError, second_order


def some(height: int, width: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, height, width, generator=draws, dtype=torch.float64)
    places = torch.rand(2, 4, 5, 2, generator=draws, dtype=torch.float64) * 1.4 - 0.2
    return x, places * torch.tensor([width, height]) - 0.5


def test_whole_pixels_come_as_they_are_and_the_outside_is_zero() -> None:
    x, _ = some(4, 6)
    places = torch.tensor([[0, 0], [5, 3], [2, 1], [-1, 0], [6, 2], [1.5, 0]], dtype=torch.float64).expand(2, 1, -1, -1)
    for kernel in grid_sample.kernels():
        found = kernel.run(x, places)[:, :, 0]
        between = (x[:, :, 0, 1] + x[:, :, 0, 2]) / 2
        expected = torch.stack([x[:, :, 0, 0], x[:, :, 3, 5], x[:, :, 1, 2], *[x[:, :, 0, 0] * 0] * 2, between], dim=2)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [(7, 9), (8, 8), (1, 5), (1, 1)])
def test_kernels_agree_with_the_reference_in_all_derivatives(size: tuple[int, int]) -> None:
    x, places = some(*size)
    x.requires_grad_()
    found = []
    for kernel in grid_sample.kernels():
        y = kernel.run(x, places)
        (slope,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        (curve,) = torch.autograd.grad(slope.pow(2).sum(), x)
        found.append((kernel.name, y, slope, curve))
    for name, *results in found[:-1]:
        for result, expected in zip(results, found[-1][1:], strict=True):
            torch.testing.assert_close(result, expected, msg=lambda told, name=name: f"{name}: {told}")


@pytest.mark.parametrize("kernel", ["linear", "reference"])
def test_kernels_are_twice_differentiable(kernel: str) -> None:
    x, places = some(4, 5)
    x.requires_grad_()
    with second_order():
        read = grid_sample.bind(kernel)
        assert torch.autograd.gradgradcheck(lambda x: read(x, places), x)


def test_gradients_of_places_are_the_references_part() -> None:
    x, places = some(4, 5)
    with pytest.raises(KernelError, match="gives no gradient of the places"):
        grid_sample(x, places.requires_grad_(), kernel="linear")
    assert torch.autograd.grad(grid_sample(x, places).sum(), places)[0].abs().max() > 0
