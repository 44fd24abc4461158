"""Improved spectral normalisation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm
from tests.tensors import normal

SHAPES = [(7, 12), (12, 7), (5, 3, 3, 3)]


def sigma(weight: Tensor) -> Tensor:
    return torch.linalg.svdvals(weight.flatten(1))[0]


@pytest.mark.parametrize("method", ["exact", "tracked"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_the_identity_at_init(method: Any, shape: tuple[int, ...]) -> None:
    weight = normal(*shape)
    norm = ImprovedSpectralNorm(weight, sigma=method)
    torch.testing.assert_close(norm.sigma_init, sigma(weight))
    for _ in range(200 if method == "tracked" else 1):
        normalised = norm(weight)
    torch.testing.assert_close(normalised, weight, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["exact", "tracked"])
def test_the_norm_of_the_result_is_that_of_the_initial_weight(method: Any) -> None:
    norm = ImprovedSpectralNorm(normal(7, 12), sigma=method, power_iterations=300)
    later = 5 * normal(7, 12, seed=1)
    torch.testing.assert_close(sigma(norm(later)), norm.sigma_init, rtol=1e-9, atol=0)
    torch.testing.assert_close(norm(later), norm(later / 7), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exact_sigma_and_its_gradient_are_those_of_a_singular_value_decomposition(shape: tuple[int, ...]) -> None:
    weight = normal(*shape).requires_grad_()
    norm, cotangent = ImprovedSpectralNorm(normal(*shape, seed=1)), normal(*shape, seed=2)
    (gradient,) = torch.autograd.grad((norm(weight) * cotangent).sum(), weight)
    (expected,) = torch.autograd.grad((weight * norm.sigma_init / sigma(weight) * cotangent).sum(), weight)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_the_authors_power_iteration_never_advances_and_passes_gradients_to_u() -> None:
    weight = normal(7, 12).requires_grad_()
    norm = ImprovedSpectralNorm(weight, sigma="power-iteration").double()
    norm.u.requires_grad_()
    before = norm.u.detach().clone()
    first, second = norm.train()(weight), norm.eval()(weight)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert torch.equal(norm.u, before)
    assert sigma(first) > norm.sigma_init  # sigma comes out too small
    assert torch.autograd.grad(first.sum(), norm.u)[0].abs().max() > 0
