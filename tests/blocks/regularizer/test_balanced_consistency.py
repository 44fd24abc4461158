"""Balanced consistency: weights, views, reuse of logits, value ranges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assemblies.models.stylenat.presets import stylenat_ffhq_256
from blocks.augment.ada import ADA
from blocks.augment.diff_augment import DiffAugment
from blocks.common.images.value_range import from_symmetric, to_symmetric
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


@pytest.mark.parametrize("value_range", ["symmetric", "unit", "imagenet"])
def test_the_copies_of_a_picture_do_not_depend_on_its_value_range(value_range: str) -> None:
    picture = images(0)
    bcr = BalancedConsistency()
    torch.manual_seed(0)
    expected = bcr.augment(picture)
    torch.manual_seed(0)
    toy = networks(Linear())._replace(value_range=value_range)
    copies = bcr.augmented(from_symmetric(picture, value_range), toy)
    torch.testing.assert_close(to_symmetric(copies, value_range), expected)


@pytest.mark.parametrize("value_range", ["symmetric", "unit", "imagenet"])
def test_copies_can_be_augmented_in_the_generator_range(value_range: str) -> None:
    """As StyleNAT does: brightness changes by up to 0.5 in normalised units, and the outside of the image is 0."""
    bcr = BalancedConsistency(augment={"kind": "diffaugment", "policy": ["color"]}, augment_range="generator")
    black = from_symmetric(-torch.ones(64, 3, 2, 2, dtype=torch.float64), value_range)
    torch.manual_seed(0)
    draws = bcr.augment.draw(black)
    torch.manual_seed(0)
    copies = bcr.augmented(black, networks(Linear())._replace(value_range=value_range))
    change = (copies - black).mean(dim=(1, 2, 3))  # saturation and contrast keep the mean
    torch.testing.assert_close(change, draws["brightness.value"].double() - 0.5)
    assert 0.4 < change.abs().max() < 0.5


def test_stylenat_augments_copies_in_normalised_units() -> None:
    spec = stylenat_ffhq_256()
    (bcr,) = (each for each in spec.regularizers if each.kind == "bcr")
    assert (bcr.augment_range, spec.generator.value_range) == ("generator", "imagenet")


def test_logits_of_the_same_augmentation_in_another_range_are_not_reused() -> None:
    spec, real = DiffAugment.Spec(policy=("color",)), images(0)
    for augment_range, value_range, calls in (
        ("symmetric", "unit", 1),
        ("generator", "unit", 2),
        ("generator", "symmetric", 1),
    ):
        discriminator = Linear()
        bcr = BalancedConsistency(lambda_fake=0.0, augment=spec, augment_range=augment_range)
        toy = networks(discriminator, spec.build())._replace(value_range=value_range)
        bcr(toy, Batch(real=real, real_logits=torch.zeros(4, 1, dtype=torch.float64)))
        assert discriminator.calls == calls, (augment_range, value_range)


def test_the_augmentation_is_always_its_own() -> None:
    """Even if the GAN has an adaptive augmentation beside it, of another spec or of the same one."""
    ada = ADA.Spec(p=1.0, target=None, policy=("color",))
    for beside in (None, ada.build(), ADA(p=0.0, policy=("color",))):
        bcr = BalancedConsistency(lambda_fake=0.0, augment=ada)
        assert bcr(networks(Linear(), beside), Batch(real=images(0))) > 0
        assert isinstance(bcr.augment, ADA)
        assert bcr.augment is not beside
