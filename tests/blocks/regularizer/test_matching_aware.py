"""The matching-aware loss: images with the conditions of others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blocks.families import Batch
from blocks.regularizer.matching_aware import MatchingAware
from registry import IncompatibleError
from tests.blocks.regularizer.toys import images, networks


def by_condition(image: Tensor, c: Tensor | None = None) -> Tensor:
    """Two logits per image."""
    assert c is not None
    return torch.stack([image.flatten(1).mean(dim=1) * c[:, 0], c[:, 1]], dim=1)


def test_images_with_the_condition_of_another_one_are_not_real() -> None:
    real, fake = images(0, 3), images(1, 3)
    c = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=real.dtype)
    others = c[[2, 0, 1]]
    expected = sum(F.softplus(by_condition(each, others)).mean() for each in (real, fake))
    value = MatchingAware(2, weight=0.5)(networks(by_condition), Batch(real=real, fake=fake, c=c))
    torch.testing.assert_close(value, 0.5 * expected)


def test_equal_conditions_match() -> None:
    real, fake = images(0, 3), images(1, 3)
    c = torch.ones(3, 2, dtype=real.dtype)
    assert MatchingAware(2)(networks(by_condition), Batch(real=real, fake=fake, c=c)) == 0


def test_an_unconditional_generator_is_refused() -> None:
    with pytest.raises(IncompatibleError, match="the generator is unconditional; give it a condition"):
        MatchingAware(0)
