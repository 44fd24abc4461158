"""ADA: the probability of its transforms, the adjustment of p, and errors."""

from __future__ import annotations

import pytest
import torch

from blocks.augment.ada import ADA
from blocks.augment.ada.draws import gated_values
from blocks.augment.ada.transforms import GROUPS
from registry import IncompatibleError, SpecValidationError
from tests.blocks.augment.test_ada import images, only

ALL = tuple(GROUPS)


def test_p_0_changes_nothing_and_p_1_changes_every_image() -> None:
    image = images(num=8)
    assert torch.equal(ADA(policy=[group for group in ALL if group != "filter"])(image), image)
    torch.testing.assert_close(ADA(policy=ALL)(image), image)
    changed = ADA(policy=ALL, p=1.0)(image)
    assert all((a - b).abs().max() > 0.01 for a, b in zip(changed, image, strict=True))


@pytest.mark.parametrize(("p", "factor", "share"), [(0.5, 1.0, 0.25), (0.5, 0.5, 0.125), (1.0, 1.0, 0.5)])
def test_a_transform_is_applied_with_probability_p(p: float, factor: float, share: float) -> None:
    torch.manual_seed(0)
    image = torch.tensor([-1.0, -1, 1, 1]).expand(4000, 1, 4, 4)
    augment = ADA(policy=("blit",), probability={"xflip": factor, "rotate90": 0, "xint": 0}, p=p)
    mirrored = augment(image)[:, 0, 1, 0] > 0
    assert float(mirrored.double().mean()) == pytest.approx(share, abs=0.03)


def test_at_least_one_rotation_is_applied_with_probability_p() -> None:
    torch.manual_seed(0)
    augment, image = only("rotate"), images(num=4000, height=1, width=1)
    augment.p.fill_(0.36)
    values = gated_values(augment.draw(image), augment.p, augment.factors, augment.bands)
    rotated = (values["rotate"] != 0.5) | (values["rotate.second"] != 0.5)
    assert float(rotated.double().mean()) == pytest.approx(0.36, abs=0.03)
    assert float((values["rotate"] != 0.5).double().mean()) == pytest.approx(0.2, abs=0.03)


def observed(augment: ADA, sign: float, steps: int, batch_size: int = 32) -> float:
    for _ in range(steps):
        augment.observe(torch.tensor(sign), batch_size)
    return augment.p.item()


def test_p_changes_with_the_sign_of_the_discriminators_logits() -> None:
    augment = ADA(kimg=1.0, interval=4)
    assert observed(augment, 0.9, 3) == 0
    assert observed(augment, 0.9, 1) == pytest.approx(0.128)
    assert observed(augment, 0.9, 4) == pytest.approx(0.256)
    assert observed(augment, 0.5, 4) == pytest.approx(0.128)
    assert observed(augment, 0.0, 16) == 0
    assert augment.strength()["p"] is augment.p


def test_p_is_adjusted_by_the_mean_sign_over_its_interval() -> None:
    augment = ADA(kimg=1.0, interval=2)
    observed(augment, 1.0, 1)
    assert observed(augment, 0.1, 1) == 0  # 0.55 < 0.6
    observed(augment, 1.0, 1)
    assert observed(augment, 0.3, 1) == pytest.approx(0.064)


def test_p_stays_within_its_limit() -> None:
    assert observed(ADA(kimg=0.1, interval=1, limit=0.7), 1.0, 9) == pytest.approx(0.7)
    assert observed(ADA(kimg=0.1, interval=1, limit=None), 1.0, 9) == pytest.approx(2.88)
    assert observed(ADA(p=0.3, target=None), 1.0, 9) == pytest.approx(0.3)
    assert observed(ADA(interval=1), float("nan"), 9) == 0


def test_incompatible_options_are_reported() -> None:
    with pytest.raises(
        IncompatibleError, match=r"probability\.noise +the policy \(blit\) has no noise; add noise to it"
    ):
        ADA(policy=("blit",), probability={"noise": 0.5})
    with pytest.raises(IncompatibleError, match=r"magnitude\.hue .*add color to it"):
        ADA(policy=("blit",), magnitude={"hue": 0.5})
    with pytest.raises(IncompatibleError, match=r"policy\.1 +blit is listed twice"):
        ADA(policy=("blit", "blit"))
    with pytest.raises(IncompatibleError, match=r"p +starts at 0\.8, above its limit 0\.7"):
        ADA(p=0.8, limit=0.7)
    with pytest.raises(SpecValidationError, match="flip"):
        ADA(policy=("blit",), probability={"flip": 0.5})
    with pytest.raises(SpecValidationError, match="target"):
        ADA(target=1.5)
