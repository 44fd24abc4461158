"""The relativistic pairing loss: values, pairs and gradients."""

from __future__ import annotations

import math

import pytest
import torch

from blocks.loss.relativistic import Relativistic

REAL, FAKE = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([0.3, -4.0, 1.0])


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_values_are_softplus_of_the_differences_of_pairs() -> None:
    differences = (1.7, 3.0, -0.5)
    discriminator, generator = Relativistic().discriminator(REAL, FAKE), Relativistic().generator(FAKE, REAL)
    assert discriminator.item() == pytest.approx(sum(softplus(-x) for x in differences) / 3, rel=1e-6)
    assert generator.item() == pytest.approx(sum(softplus(x) for x in differences) / 3, rel=1e-6)


def test_a_constant_added_to_all_logits_changes_nothing() -> None:
    torch.testing.assert_close(
        Relativistic().discriminator(REAL + 7, FAKE + 7), Relativistic().discriminator(REAL, FAKE)
    )


def test_pairs_are_not_broadcast() -> None:
    expected = Relativistic().discriminator(REAL, FAKE)
    torch.testing.assert_close(Relativistic().discriminator(REAL[:, None], FAKE), expected)
    with pytest.raises(ValueError, match=r"\[3\] and \[2\]"):
        Relativistic().discriminator(REAL, FAKE[:2])


def test_the_generator_needs_real_logits() -> None:
    assert Relativistic.generator_needs_real
    with pytest.raises(ValueError, match="logits of real images"):
        Relativistic().generator(FAKE)
