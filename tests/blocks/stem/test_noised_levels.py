"""Multi-level noise: its strength, the path that it is on, and what a discriminator takes as levels."""

from __future__ import annotations

import pytest
import torch

from blocks.stem.noise_path import noise_levels, noise_path
from blocks.stem.noised_levels import NoisedLevels
from registry import IncompatibleError

SHARES = noise_levels(4, 0.125, 0.01)


def test_each_level_has_noise_of_its_share() -> None:
    assert pytest.approx([0.885, 0.76, 0.51, 0.01]) == SHARES
    noise = noise_path(torch.randn(4, 1, 1, 500, 500, generator=torch.Generator().manual_seed(0)), SHARES)
    assert noise.flatten(1).std(dim=1).tolist() == pytest.approx(SHARES, rel=0.01)


def test_coarser_noise_contains_the_finer_one() -> None:
    noise = noise_path(torch.randn(4, 1, 1, 500, 500, generator=torch.Generator().manual_seed(0)), SHARES)
    correlation = torch.corrcoef(noise.flatten(1))
    kept = (1 - SHARES[1]) / (1 - SHARES[2])
    assert correlation[1, 2].item() == pytest.approx(kept * SHARES[2] / SHARES[1], abs=0.01)


def test_a_real_image_is_repeated_and_a_generated_one_split() -> None:
    stem = NoisedLevels(3, (8, 8), dim=8)
    real, generated = torch.randn(2, 3, 8, 8), torch.randn(2, 12, 8, 8)
    assert torch.equal(stem.levels_of(real), real.expand(4, 2, 3, 8, 8))
    assert torch.equal(stem.levels_of(generated)[1], generated[:, 3:6])
    assert stem(None, real)[0].shape == stem(None, generated)[0].shape == (2, 8, 1, 17)
    with pytest.raises(ValueError, match="12"):
        stem.levels_of(torch.randn(2, 6, 8, 8))


def test_the_coarsest_level_keeps_a_part_of_the_image() -> None:
    with pytest.raises(IncompatibleError, match="share of noise of"):
        NoisedLevels(3, (8, 8), dim=8, min_info=0.1, shift=0.2)
