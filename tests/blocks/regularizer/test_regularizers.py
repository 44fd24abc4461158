"""Penalties of the discriminator, against gradients known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blocks.augment.diff_augment import DiffAugment
from blocks.families import Batch, Networks, Regularizer
from blocks.regularizer.balanced_consistency import BalancedConsistency
from blocks.regularizer.gradient_penalty import GradientPenalty
from blocks.regularizer.path_length import PathLength
from blocks.regularizer.r1 import R1

NO_AUGMENTATION = {"kind": "diffaugment", "policy": []}


def images(seed: int, num: int = 4) -> Tensor:
    return torch.rand(num, 3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


class Linear(nn.Module):
    """A discriminator whose slope is known: D(x) = <a, x> + <b, c>, and how often it was asked."""

    def __init__(self, num_logits: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.slope = nn.Parameter(torch.randn(60, num_logits, generator=generator, dtype=torch.float64))
        self.calls = 0

    def forward(self, image: Tensor, c: Tensor | None = None) -> Tensor:
        self.calls += 1
        logits = image.flatten(1) @ self.slope
        return logits if c is None else logits + c


class Quadratic(nn.Module):
    """D(x) = k |x|^2 / 2, of gradient k x."""

    def __init__(self) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

    def forward(self, image: Tensor, c: Tensor | None = None) -> Tensor:
        return self.k * image.square().sum(dim=(1, 2, 3)) / 2


def networks(discriminator: Callable[..., Tensor], augment: Callable[[Tensor], Tensor] | None = None) -> Networks:
    return Networks(nn.Identity(), discriminator, augment or nn.Identity())


def test_r1_is_half_gamma_times_the_mean_squared_gradient_and_trains_the_discriminator() -> None:
    discriminator, real = Quadratic(), images(0)
    penalty = R1(gamma=0.8)(networks(discriminator), Batch(real=real))
    squares = real.square().sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(penalty, 0.4 * 9 * squares)
    (of_k,) = torch.autograd.grad(penalty, discriminator.k)
    torch.testing.assert_close(of_k, 0.4 * 2 * 3 * squares)
    assert not real.requires_grad


@pytest.mark.parametrize("every", [1, 16])
def test_r1_leaves_counting_its_interval_to_the_trainer(every: int) -> None:
    spec = R1.Spec(every=every)
    value = spec.build()(networks(Quadratic()), Batch(real=images(0)))
    torch.testing.assert_close(value, R1()(networks(Quadratic()), Batch(real=images(0))))
    assert spec.every == every


def test_r1_sums_over_logits_and_goes_through_the_augmentation_and_the_condition() -> None:
    discriminator, real = Linear(num_logits=3), images(0)
    penalty = R1(gamma=2.0)(networks(discriminator, lambda image: 5 * image), Batch(real=real, c=real[:, 0, 0, :3]))
    torch.testing.assert_close(penalty, 25 * discriminator.slope.sum(dim=1).square().sum())


def test_r1_takes_the_gradient_of_the_batch_with_its_cross_terms() -> None:
    """As through minibatch standard deviation: each image's gradient is of the sum of all logits."""
    real = images(0, num=2)
    penalty = R1(gamma=2.0)(networks(lambda image, c: image.prod(dim=0).flatten().sum().expand(2)), Batch(real=real))
    torch.testing.assert_close(penalty, (4 * real.flip(0).square()).sum(dim=(1, 2, 3)).mean())


@pytest.mark.parametrize("num_logits", [1, 6])
def test_the_gradient_penalty_holds_the_slope_of_the_mean_logit_at_its_target(num_logits: int) -> None:
    discriminator = Linear(num_logits)
    penalty = GradientPenalty(weight=3.0, target=0.5)(networks(discriminator), Batch(real=images(0), fake=images(1)))
    slope = discriminator.slope.mean(dim=1).norm()
    torch.testing.assert_close(penalty, 3 * (slope - 0.5) ** 2)
    assert torch.autograd.grad(penalty, discriminator.slope)[0].abs().max() > 0


def test_the_gradient_penalty_looks_between_each_real_and_its_fake() -> None:
    seen: list[Tensor] = []

    def discriminator(image: Tensor, c: Tensor | None) -> Tensor:
        seen.append(image.detach())
        return image.square().sum(dim=(1, 2, 3))

    real, fake = images(0), images(1)
    GradientPenalty()(networks(discriminator), Batch(real=real, fake=fake))
    share = ((seen[0] - fake) / (real - fake)).flatten(1)
    torch.testing.assert_close(share, share[:, :1].expand_as(share))
    assert ((share > 0) & (share < 1)).all()
    assert share[:, 0].unique().numel() == 4


def test_the_gradient_penalty_of_images_before_augmentation_is_that_of_augmented_ones() -> None:
    """It holds D's slope at what D is shown, so an augmentation's own slope does not enter."""
    discriminator, batch = Linear(), Batch(real=images(0), fake=images(1))
    plain = GradientPenalty()(networks(discriminator), batch)
    torch.testing.assert_close(GradientPenalty()(networks(discriminator, lambda image: 9 * image), batch), plain)


@pytest.mark.parametrize("penalty", [R1(), GradientPenalty()], ids=["r1", "gradient-penalty"])
def test_penalties_say_that_they_need_second_derivatives(penalty: Regularizer) -> None:
    assert penalty.second_order
    assert penalty.side == "discriminator"
    assert not BalancedConsistency.second_order


@pytest.mark.parametrize("view", ["clean", "two-views"])
def test_consistency_is_zero_where_the_augmentation_changes_nothing(view: str) -> None:
    bcr = BalancedConsistency.Spec(view=view, augment=NO_AUGMENTATION).build()
    assert bcr(networks(Linear()), Batch(real=images(0), fake=images(1))) == 0


def test_consistency_weighs_reals_and_fakes_and_passes_gradients_through_both_sides() -> None:
    discriminator, real, fake = Linear(), images(0), images(1)
    bcr = BalancedConsistency(lambda_real=2.0, lambda_fake=3.0, augment={"kind": "diffaugment", "policy": ["flip"]})
    bcr.augment.probability["flip"] = 1.0
    flipped = [discriminator(image.flip(3)) - discriminator(image) for image in (real, fake)]
    expected = 2 * flipped[0].square().mean() + 3 * flipped[1].square().mean()
    found = bcr(networks(discriminator), Batch(real=real, fake=fake))
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, discriminator.slope)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, discriminator.slope)[0])


def test_consistency_pairs_logits_of_any_shape_image_by_image() -> None:
    for num_logits in (1, 5):
        bcr = BalancedConsistency(augment=NO_AUGMENTATION)
        discriminator = Linear(num_logits)
        assert bcr(networks(discriminator), Batch(real=images(0), fake=images(1))) == 0
        assert discriminator.calls == 4


def test_clean_consistency_uses_the_logits_at_hand_only_where_the_images_were_not_augmented() -> None:
    real, fake = images(0), images(1)
    for augment, calls in ((nn.Identity(), 2), (DiffAugment(), 4), (lambda image: image, 4)):
        discriminator = Linear()
        logits = {"real_logits": discriminator(real), "fake_logits": discriminator(fake)}
        discriminator.calls = 0
        bcr = BalancedConsistency(augment=NO_AUGMENTATION)
        assert bcr(networks(discriminator, augment), Batch(real=real, fake=fake, **logits)) == 0
        assert discriminator.calls == calls


def test_clean_consistency_takes_the_logits_of_the_same_augmentation_for_those_of_the_copy() -> None:
    real, fake, embed_weights = images(0), images(1), DiffAugment.Spec(policy=("color",))
    discriminator = Linear()
    logits = {"real_logits": discriminator(real) + 2.0, "fake_logits": discriminator(fake) + 3.0}
    discriminator.calls = 0
    bcr = BalancedConsistency(lambda_real=1.0, lambda_fake=1.0, augment=embed_weights)
    found = bcr(networks(discriminator, embed_weights.build()), Batch(real=real, fake=fake, **logits))
    torch.testing.assert_close(found, torch.full_like(found, 2.0**2 + 3.0**2))
    assert discriminator.calls == 2


def test_copies_are_made_in_the_range_that_augmentations_work_in() -> None:
    flip = {"kind": "diffaugment", "policy": ["flip", "cutout"], "cutout_ratio": 0.5}
    unit, symmetric = images(0).sigmoid(), 2 * images(0).sigmoid() - 1
    found = []
    for image, value_range, judge in ((unit, "unit", Linear()), (symmetric, "symmetric", Linear())):
        shown: list[Tensor] = []

        def discriminator(image: Tensor, c: Any, judge: Any = judge, shown: Any = shown) -> Tensor:
            shown.append(image)
            logits: Tensor = judge(image, c)
            return logits

        torch.manual_seed(0)
        bcr = BalancedConsistency(lambda_fake=0.0, augment=flip)
        bcr(Networks(nn.Identity(), discriminator, nn.Identity(), value_range), Batch(real=image))
        found.append(shown)
    for of_unit, of_symmetric in zip(*found, strict=True):
        torch.testing.assert_close(2 * of_unit - 1, of_symmetric)


def test_the_gradient_penalty_can_spare_images_the_augmentation() -> None:
    def forbidden(image: Tensor) -> Tensor:
        raise AssertionError("images were augmented")

    discriminator = Linear()
    batch = Batch(real=images(0), fake=images(1))
    spared = GradientPenalty(augmented=False)(networks(discriminator, forbidden), batch)
    torch.testing.assert_close(spared, GradientPenalty()(networks(discriminator), batch))
    with pytest.raises(AssertionError, match="were augmented"):
        GradientPenalty()(networks(discriminator, forbidden), batch)


def test_two_views_use_the_logits_at_hand_only_of_the_same_augmentation() -> None:
    real, fake, embed_weights = images(0), images(1), DiffAugment.Spec(policy=("color",))
    for augment, calls in ((nn.Identity(), 4), (embed_weights.build(), 2), (DiffAugment(policy=("flip",)), 4)):
        discriminator = Linear()
        logits = {"real_logits": discriminator(augment(real)), "fake_logits": discriminator(augment(fake))}
        discriminator.calls = 0
        bcr = BalancedConsistency(view="two-views", augment=embed_weights)
        assert bcr(networks(discriminator, augment), Batch(real=real, fake=fake, **logits)) > 0
        assert discriminator.calls == calls


def test_a_phase_of_its_own_generates_the_fakes_without_gradients() -> None:
    generator = nn.Linear(6, 60, dtype=torch.float64)
    made = nn.Sequential(generator, nn.Unflatten(1, (3, 4, 5)))
    seen = Networks(lambda z, c: made(z), Linear(), nn.Identity())  # type: ignore[arg-type]
    batch = Batch(real=images(0), z=images(2).flatten(1)[:, :6])
    for regularizer in (BalancedConsistency(), GradientPenalty()):
        regularizer(seen, batch).backward()
        assert generator.weight.grad is None


def test_a_weight_of_zero_asks_for_nothing() -> None:
    discriminator = Linear()
    found = BalancedConsistency(lambda_fake=0.0)(networks(discriminator), Batch(real=images(0)))
    assert found > 0
    assert discriminator.calls == 2


class Painter(nn.Module):
    """A generator whose paths are known: the image is k_i times w_i, summed over the style vectors i."""

    def __init__(self) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
        self.mapped = 0

    def mapping(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        self.mapped += len(z)
        return (z if c is None else z + c)[:, None].expand(-1, 2, -1)

    def synthesis(self, ws: Tensor) -> Tensor:
        return (self.k[:, None] * ws).sum(dim=1).view(-1, 3, 4, 5)


def test_path_length_is_the_slope_along_noise_per_root_of_the_pixels() -> None:
    painter, noise = Painter(), images(5)
    lengths = PathLength().lengths(painter.synthesis, painter.mapping(images(6).flatten(1)), noise)
    per_vector = noise.flatten(1).norm(dim=1) / 20**0.5  # times k; their mean square is 12.5
    torch.testing.assert_close(lengths, per_vector * 12.5**0.5)


def test_path_length_holds_lengths_at_their_running_mean() -> None:
    penalty = PathLength(decay=0.1).double()
    lengths = torch.tensor([1.0, 3.0], dtype=torch.float64, requires_grad=True)
    found = penalty.penalties(lengths)
    torch.testing.assert_close(penalty.mean, torch.tensor(0.2, dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([0.64, 7.84], dtype=torch.float64))
    (slope,) = torch.autograd.grad(found.mean(), lengths)
    torch.testing.assert_close(slope, torch.tensor([0.8 - 0.18, 2.8 - 0.18], dtype=torch.float64))  # the mean moves too
    penalty.penalties(lengths)
    torch.testing.assert_close(penalty.mean, torch.tensor(0.38, dtype=torch.float64))


@pytest.mark.parametrize(("shrink", "seen"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_path_length_looks_at_the_first_part_of_the_batch(shrink: int, seen: int) -> None:
    painter, z = Painter(), images(6).flatten(1)
    penalty = PathLength(batch_shrink=shrink, weight=3.0).double()
    value = penalty(Networks(painter, Linear(), nn.Identity()), Batch(z=z, c=torch.zeros_like(z)))
    assert painter.mapped == seen
    assert torch.autograd.grad(value, painter.k)[0].abs().min() > 0


def test_path_length_outlives_numbers_that_are_not_finite() -> None:
    penalty = PathLength()
    penalty.penalties(torch.tensor([5.0]))
    before = penalty.mean.clone()
    assert penalty.penalties(torch.tensor([float("nan")])).isnan().all()
    assert torch.equal(penalty.mean, before)
    assert penalty.state_dict().keys() == {"mean"}
