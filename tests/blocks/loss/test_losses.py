"""The adversarial losses: values, signs and gradients."""

from __future__ import annotations

import math

import pytest
import torch

from blocks.families import Loss
from blocks.loss.hinge import Hinge
from blocks.loss.non_saturating import NonSaturating
from blocks.loss.wasserstein import Wasserstein

LOSSES = [NonSaturating, Hinge, Wasserstein]
REAL, FAKE = torch.tensor([[2.0, -1.0], [0.5, 0.0]]), torch.tensor([0.3, -4.0, 1.0])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("loss", "discriminator", "generator"),
    [
        (
            NonSaturating(),
            sum(softplus(-x) for x in (2, -1, 0.5, 0)) / 4 + sum(softplus(x) for x in (0.3, -4, 1)) / 3,
            sum(softplus(-x) for x in (0.3, -4, 1)) / 3,
        ),
        (Hinge(), (0 + 2 + 0.5 + 1) / 4 + (1.3 + 0 + 2) / 3, 2.7 / 3),
        (Wasserstein(), -2.7 / 3 - 1.5 / 4, 2.7 / 3),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_values_match_the_papers_formulas(loss: Loss, discriminator: float, generator: float) -> None:
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(discriminator, rel=1e-6)
    assert loss.generator(FAKE).item() == pytest.approx(generator, rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_have_the_right_signs(loss: type[Loss]) -> None:
    real, fake = torch.zeros(3, 4, requires_grad=True), torch.zeros(3, 4, requires_grad=True)
    of_real, of_fake = torch.autograd.grad(loss().discriminator(real, fake), [real, fake])
    (of_generator,) = torch.autograd.grad(loss().generator(fake), fake)
    assert (of_real < 0).all()
    assert (of_fake > 0).all()
    assert (of_generator < 0).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 2, 3)])
def test_the_shape_of_the_logits_does_not_change_the_loss(loss: type[Loss], shape: tuple[int, ...]) -> None:
    """[B,1] and [B] must not be broadcast to all pairs."""
    real, fake = torch.randn(2, math.prod(shape), generator=torch.Generator().manual_seed(0))
    expected = loss().discriminator(real, fake)
    torch.testing.assert_close(loss().discriminator(real.view(shape), fake[:, None]), expected)


def test_large_logits_have_finite_losses_and_gradients() -> None:
    logits = torch.tensor([-1e4, 1e4], requires_grad=True)
    total = NonSaturating().discriminator(logits, logits) + NonSaturating().generator(logits)
    (gradient,) = torch.autograd.grad(total, logits)
    assert total.isfinite()
    assert gradient.isfinite().all()


def test_the_non_saturating_generator_gradient_is_largest_for_confident_discriminators() -> None:
    fake = torch.tensor([-8.0, 8.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(NonSaturating().generator(fake) * 2, fake)
    torch.testing.assert_close(gradient, torch.tensor([-1.0, 0.0]), atol=1e-3, rtol=0)


def test_hinge_has_no_gradient_beyond_the_margin() -> None:
    real, fake = torch.tensor([1.5, 0.5], requires_grad=True), torch.tensor([-1.5, -0.5], requires_grad=True)
    of_real, of_fake = torch.autograd.grad(Hinge().discriminator(real, fake), [real, fake])
    torch.testing.assert_close(of_real, torch.tensor([0.0, -0.5]))
    torch.testing.assert_close(of_fake, torch.tensor([0.0, 0.5]))
