"""R1 against gradients known in closed form."""

from __future__ import annotations

import pytest
import torch

from blocks.attention.hydra import HydraNA
from blocks.families import Batch
from blocks.regularizer.r1 import R1
from tests.blocks.regularizer.toys import Linear, Quadratic, images, networks


def test_it_is_half_gamma_times_the_mean_squared_gradient() -> None:
    discriminator, real = Quadratic(), images(0)
    penalty = R1(gamma=0.8)(networks(discriminator), Batch(real=real))
    squares = real.square().sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(penalty, 0.4 * 9 * squares)
    (of_k,) = torch.autograd.grad(penalty, discriminator.k)
    torch.testing.assert_close(of_k, 0.4 * 2 * 3 * squares)
    assert not real.requires_grad


def test_it_chooses_kernels_with_second_derivatives() -> None:
    attention = HydraNA(4, (8, 8), num_heads=2, kernel_sizes=(3,), dilations=(1, 2))
    real = torch.randn(2, 4, 8, 8)
    R1()(networks(lambda image, c: attention(image.movedim(1, -1)).sum((1, 2, 3))), Batch(real=real)).backward()
    assert attention.qkv.weight.grad.isfinite().all()
    assert attention.qkv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("every", [1, 16])
def test_its_value_does_not_depend_on_every(every: int) -> None:
    spec = R1.Spec(every=every)
    value = spec.build()(networks(Quadratic()), Batch(real=images(0)))
    torch.testing.assert_close(value, R1()(networks(Quadratic()), Batch(real=images(0))))
    assert spec.every == every


def test_the_gradient_is_of_the_sum_of_logits_through_the_augmentation() -> None:
    discriminator, real = Linear(num_logits=3), images(0)
    penalty = R1(gamma=2.0)(networks(discriminator, lambda image: 5 * image), Batch(real=real, c=real[:, 0, 0, :3]))
    torch.testing.assert_close(penalty, 25 * discriminator.slope.sum(dim=1).square().sum())


def test_the_gradient_includes_cross_terms_of_the_batch() -> None:
    """As through minibatch standard deviation: each image's gradient is of the sum of all logits."""
    real = images(0, num=2)
    penalty = R1(gamma=2.0)(networks(lambda image, c: image.prod(dim=0).flatten().sum().expand(2)), Batch(real=real))
    torch.testing.assert_close(penalty, (4 * real.flip(0).square()).sum(dim=(1, 2, 3)).mean())


def test_logits_of_images_that_require_gradients_are_differentiated_without_another_pass() -> None:
    discriminator, real = Linear(), images(0).requires_grad_()
    batch = Batch(real=real, real_logits=discriminator(real))
    penalty = R1(gamma=2.0)(networks(discriminator), batch)
    torch.testing.assert_close(penalty, discriminator.slope.square().sum())
    assert discriminator.calls == 1
    R1()(networks(discriminator), batch._replace(real=images(0)))
    assert discriminator.calls == 2


def test_it_needs_second_derivatives() -> None:
    assert R1.second_order
    assert R1.side == "discriminator"
