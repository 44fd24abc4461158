"""The gradient penalty against gradients known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blocks.families import Batch
from blocks.regularizer.gradient_penalty import GradientPenalty
from tests.blocks.regularizer.toys import Linear, images, networks


@pytest.mark.parametrize("num_logits", [1, 6])
def test_it_penalises_the_gradient_norm_of_the_mean_logit(num_logits: int) -> None:
    discriminator = Linear(num_logits)
    penalty = GradientPenalty(weight=3.0, target=0.5)(networks(discriminator), Batch(real=images(0), fake=images(1)))
    slope = discriminator.slope.mean(dim=1).norm()
    torch.testing.assert_close(penalty, 3 * (slope - 0.5) ** 2)
    assert torch.autograd.grad(penalty, discriminator.slope)[0].abs().max() > 0


def test_it_is_evaluated_between_each_real_and_its_fake() -> None:
    inputs: list[Tensor] = []

    def discriminator(image: Tensor, c: Tensor | None) -> Tensor:
        inputs.append(image.detach())
        return image.square().sum(dim=(1, 2, 3))

    real, fake = images(0), images(1)
    GradientPenalty()(networks(discriminator), Batch(real=real, fake=fake))
    weight = ((inputs[0] - fake) / (real - fake)).flatten(1)
    torch.testing.assert_close(weight, weight[:, :1].expand_as(weight))
    assert ((weight > 0) & (weight < 1)).all()
    assert weight[:, 0].unique().numel() == 4


def test_the_gradient_is_by_the_augmented_image() -> None:
    discriminator, batch = Linear(), Batch(real=images(0), fake=images(1))
    plain = GradientPenalty()(networks(discriminator), batch)
    torch.testing.assert_close(GradientPenalty()(networks(discriminator, lambda image: 9 * image), batch), plain)


def test_augmentation_can_be_skipped() -> None:
    def fail(image: Tensor) -> Tensor:
        raise AssertionError("images were augmented")

    discriminator = Linear()
    batch = Batch(real=images(0), fake=images(1))
    skipped = GradientPenalty(augmented=False)(networks(discriminator, fail), batch)
    torch.testing.assert_close(skipped, GradientPenalty()(networks(discriminator), batch))
    with pytest.raises(AssertionError, match="were augmented"):
        GradientPenalty()(networks(discriminator, fail), batch)


def test_it_needs_second_derivatives() -> None:
    assert GradientPenalty.second_order
    assert GradientPenalty.side == "discriminator"
