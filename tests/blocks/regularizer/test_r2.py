"""R2 against gradients known in closed form."""

from __future__ import annotations

import torch

from blocks.families import Batch
from blocks.regularizer.r2 import R2
from tests.blocks.regularizer.toys import Linear, Quadratic, images, networks


def test_it_is_half_gamma_times_the_mean_squared_gradient_at_generated_images() -> None:
    discriminator, real, fake = Quadratic(), images(0), images(1)
    penalty = R2(gamma=0.8)(networks(discriminator), Batch(real=real, fake=fake))
    torch.testing.assert_close(penalty, 0.4 * 9 * fake.square().sum(dim=(1, 2, 3)).mean())


def test_the_gradient_is_through_the_augmentation() -> None:
    discriminator = Linear()
    penalty = R2(gamma=2.0)(networks(discriminator, lambda image: 5 * image), Batch(fake=images(0)))
    torch.testing.assert_close(penalty, 25 * discriminator.slope.square().sum())


def test_gamma_follows_its_schedule() -> None:
    regularizer = R2(gamma={"kind": "cosine", "init": 2, "final": 0.2, "kimg": 10})
    values = []
    for count in (0, 5000, 10_000, 20_000):
        regularizer.at(count)
        values.append(regularizer(networks(Linear()), Batch(fake=images(0))))
    torch.testing.assert_close(torch.stack(values) / values[0], torch.tensor([1, 0.55, 0.1, 0.1]).double())
