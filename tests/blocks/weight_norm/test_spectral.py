"""Spectral normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blocks.weight_norm.spectral import SpectralNorm
from tests.tensors import normal

SHAPES = [(7, 12), (12, 7), (5, 3, 3, 3)]


def sigma(weight: Tensor) -> Tensor:
    return torch.linalg.svdvals(weight.flatten(1))[0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_spectral_norm_converges_to_norm_one(shape: tuple[int, ...]) -> None:
    weight = normal(*shape)
    norm = SpectralNorm(weight).double()
    for _ in range(200):
        normalised = norm(weight)
    torch.testing.assert_close(sigma(normalised), torch.ones_like(sigma(weight)), rtol=1e-9, atol=0)
    torch.testing.assert_close(normalised * sigma(weight), weight, rtol=1e-9, atol=1e-12)


def test_a_training_pass_updates_v_then_u_and_evaluation_changes_nothing() -> None:
    weight = normal(5, 8)
    norm = SpectralNorm(weight).double()
    norm.u.copy_(normal(5, seed=1))
    norm.v.copy_(normal(8, seed=2))
    u, v = norm.u.clone(), norm.v.clone()
    torch.testing.assert_close(norm.eval()(weight), weight / (u @ weight @ v))
    assert torch.equal(norm.u, u)
    v = weight.T @ u
    v = v / v.norm()
    u = weight @ v
    u = u / u.norm()
    torch.testing.assert_close(norm.train()(weight), weight / (u @ weight @ v))
    torch.testing.assert_close(norm.u, u)
    torch.testing.assert_close(norm.v, v)


def test_u_and_v_are_constants_for_the_gradient_of_spectral_norm() -> None:
    weight = normal(5, 8).requires_grad_()
    norm = SpectralNorm(weight).double().eval()
    cotangent = normal(5, 8, seed=3)
    (gradient,) = torch.autograd.grad((norm(weight) * cotangent).sum(), weight)
    size = norm.u @ weight @ norm.v
    expected = cotangent / size - (cotangent * weight).sum() / size**2 * torch.outer(norm.u, norm.v)
    torch.testing.assert_close(gradient, expected)


def test_two_training_passes_can_precede_one_backward_pass() -> None:
    weight = normal(5, 8).requires_grad_()
    norm = SpectralNorm(weight).double()
    (norm(weight).sum() + norm(weight).sum()).backward()
    assert weight.grad is not None
