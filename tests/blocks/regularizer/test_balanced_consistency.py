"""Balanced consistency: weights, views, reuse of logits, value ranges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blocks.augment.diff_augment import DiffAugment
from blocks.families import Batch, Networks
from blocks.regularizer.balanced_consistency import BalancedConsistency
from blocks.regularizer.gradient_penalty import GradientPenalty
from tests.blocks.regularizer.toys import Linear, images, networks

NO_AUGMENTATION = {"kind": "diffaugment", "policy": []}


@pytest.mark.parametrize("view", ["clean", "two-views"])
def test_without_a_change_by_the_augmentation_it_is_zero(view: str) -> None:
    bcr = BalancedConsistency.Spec(view=view, augment=NO_AUGMENTATION).build()
    assert bcr(networks(Linear()), Batch(real=images(0), fake=images(1))) == 0


def test_reals_and_fakes_are_weighted_and_gradients_flow_through_both_views() -> None:
    discriminator, real, fake = Linear(), images(0), images(1)
    bcr = BalancedConsistency(lambda_real=2.0, lambda_fake=3.0, augment={"kind": "diffaugment", "policy": ["flip"]})
    bcr.augment.probability["flip"] = 1.0
    flipped = [discriminator(image.flip(3)) - discriminator(image) for image in (real, fake)]
    expected = 2 * flipped[0].square().mean() + 3 * flipped[1].square().mean()
    value = bcr(networks(discriminator), Batch(real=real, fake=fake))
    torch.testing.assert_close(value, expected)
    (gradient,) = torch.autograd.grad(value, discriminator.slope)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, discriminator.slope)[0])


def test_logits_of_any_shape_are_compared_image_by_image() -> None:
    for num_logits in (1, 5):
        bcr = BalancedConsistency(augment=NO_AUGMENTATION)
        discriminator = Linear(num_logits)
        assert bcr(networks(discriminator), Batch(real=images(0), fake=images(1))) == 0
        assert discriminator.calls == 4


def test_the_clean_view_reuses_logits_of_the_main_loss_only_without_augmentation() -> None:
    real, fake = images(0), images(1)
    for augment, calls in ((nn.Identity(), 2), (DiffAugment(), 4), (lambda image: image, 4)):
        discriminator = Linear()
        logits = {"real_logits": discriminator(real), "fake_logits": discriminator(fake)}
        discriminator.calls = 0
        bcr = BalancedConsistency(augment=NO_AUGMENTATION)
        assert bcr(networks(discriminator, augment), Batch(real=real, fake=fake, **logits)) == 0
        assert discriminator.calls == calls


def test_logits_of_the_same_augmentation_replace_those_of_the_copy() -> None:
    real, fake, augment_spec = images(0), images(1), DiffAugment.Spec(policy=("color",))
    discriminator = Linear()
    logits = {"real_logits": discriminator(real) + 2.0, "fake_logits": discriminator(fake) + 3.0}
    discriminator.calls = 0
    bcr = BalancedConsistency(lambda_real=1.0, lambda_fake=1.0, augment=augment_spec)
    value = bcr(networks(discriminator, augment_spec.build()), Batch(real=real, fake=fake, **logits))
    torch.testing.assert_close(value, torch.full_like(value, 2.0**2 + 3.0**2))
    assert discriminator.calls == 2


def test_copies_are_augmented_in_the_symmetric_range() -> None:
    flip = {"kind": "diffaugment", "policy": ["flip", "cutout"], "cutout_ratio": 0.5}
    unit, symmetric = images(0).sigmoid(), 2 * images(0).sigmoid() - 1
    value = []
    for image, value_range, score in ((unit, "unit", Linear()), (symmetric, "symmetric", Linear())):
        inputs: list[Tensor] = []

        def discriminator(image: Tensor, c: Any, score: Any = score, inputs: Any = inputs) -> Tensor:
            inputs.append(image)
            logits: Tensor = score(image, c)
            return logits

        torch.manual_seed(0)
        bcr = BalancedConsistency(lambda_fake=0.0, augment=flip)
        bcr(Networks(nn.Identity(), discriminator, nn.Identity(), value_range), Batch(real=image))
        value.append(inputs)
    for of_unit, of_symmetric in zip(*value, strict=True):
        torch.testing.assert_close(2 * of_unit - 1, of_symmetric)


def test_two_views_reuse_logits_only_of_the_same_augmentation() -> None:
    real, fake, augment_spec = images(0), images(1), DiffAugment.Spec(policy=("color",))
    for augment, calls in ((nn.Identity(), 4), (augment_spec.build(), 2), (DiffAugment(policy=("flip",)), 4)):
        discriminator = Linear()
        logits = {"real_logits": discriminator(augment(real)), "fake_logits": discriminator(augment(fake))}
        discriminator.calls = 0
        bcr = BalancedConsistency(view="two-views", augment=augment_spec)
        assert bcr(networks(discriminator, augment), Batch(real=real, fake=fake, **logits)) > 0
        assert discriminator.calls == calls


def test_a_lazy_phase_generates_fakes_without_gradients() -> None:
    generator = nn.Linear(6, 60, dtype=torch.float64)
    made = nn.Sequential(generator, nn.Unflatten(1, (3, 4, 5)))
    toy = Networks(lambda z, c: made(z), Linear(), nn.Identity())  # type: ignore[arg-type]
    batch = Batch(real=images(0), z=images(2).flatten(1)[:, :6])
    for regularizer in (BalancedConsistency(), GradientPenalty()):
        regularizer(toy, batch).backward()
        assert generator.weight.grad is None


def test_a_weight_of_zero_costs_nothing() -> None:
    discriminator = Linear()
    value = BalancedConsistency(lambda_fake=0.0)(networks(discriminator), Batch(real=images(0)))
    assert value > 0
    assert discriminator.calls == 2
