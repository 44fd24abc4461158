"""Finite-difference R1 and R2 against the exact penalties."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blocks.families import Batch, Regularizer
from blocks.regularizer.approximate_r1 import ApproximateR1
from blocks.regularizer.approximate_r2 import ApproximateR2
from blocks.regularizer.r1 import R1
from blocks.regularizer.r2 import R2
from tests.blocks.regularizer.toys import images, networks

PAIRS = [(ApproximateR1, R1), (ApproximateR2, R2)]
BATCH = Batch(real=images(0, 2), fake=images(1, 2))
DIRECTIONS = 4000


def curved(image: Tensor, c: Tensor | None = None) -> Tensor:
    """A discriminator of two logits that is not linear."""
    flat = image.flatten(1)
    slope = torch.linspace(-1, 1, flat.shape[1], dtype=flat.dtype)
    return torch.stack([(flat @ slope).tanh(), (flat * slope).square().sum(dim=1).sin()], dim=1)


def mean_over_directions(regularizer: Regularizer) -> Tensor:
    """The penalty with each image many times in the batch, so that there is a direction for each."""
    torch.manual_seed(0)
    batch = Batch(*(each.repeat(DIRECTIONS, 1, 1, 1) for each in (BATCH.real, BATCH.fake)))
    penalty: Tensor = regularizer(networks(curved), batch)
    return penalty


@pytest.mark.parametrize(("approximate", "exact"), PAIRS)
def test_it_converges_to_the_exact_penalty_as_sigma_falls(approximate: type, exact: type) -> None:
    expected = exact(gamma=2.0)(networks(curved), BATCH)
    errors = [(mean_over_directions(approximate(gamma=2.0, sigma=sigma)) / expected - 1).abs() for sigma in (0.3, 0.01)]
    assert errors[1] < 0.03  # 4000 directions: a relative deviation of sqrt(2 / 8000) = 0.016
    assert errors[0] > 3 * errors[1]


@pytest.mark.parametrize(("approximate", "exact"), PAIRS)
def test_both_evaluations_have_the_same_augmentation_and_noise(approximate: type, exact: type) -> None:
    """With other random numbers, the difference would be divided by a tiny sigma."""

    def noisy(image: Tensor, c: Tensor | None = None) -> Tensor:
        return (image + torch.randn_like(image)).flatten(1).sum(dim=1)

    augmented = networks(noisy, lambda image: image + torch.rand_like(image))
    penalty = approximate(gamma=2.0, sigma=1e-6)(augmented, BATCH)
    assert 0 < penalty < 60 * 40  # 60 pixels of slope 1 each, times chi-square of one degree


@pytest.mark.parametrize("approximate", [ApproximateR1, ApproximateR2])
def test_it_needs_first_derivatives_only(approximate: type[Regularizer]) -> None:
    assert not approximate.second_order
    slope = torch.ones(60, dtype=torch.float64, requires_grad=True)
    penalty = approximate()(networks(lambda image, c: image.flatten(1) @ slope), BATCH)
    (gradient,) = torch.autograd.grad(penalty, slope)
    torch.testing.assert_close(gradient @ slope, 2 * penalty)  # the penalty is quadratic in the slope
