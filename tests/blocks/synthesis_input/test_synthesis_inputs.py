"""Sources: what a generator's features start from."""

from __future__ import annotations

import math

import pytest
import torch

from blocks.synthesis_input.constant import Constant
from blocks.synthesis_input.fourier_features import FourierFeatures
from blocks.synthesis_input.learned_tokens import LearnedTokens
from registry import IncompatibleError


def waves(**options: object) -> FourierFeatures:
    torch.manual_seed(0)
    return FourierFeatures(12, **{"dim": 16, "resolution": (6, 9)} | options).double()


def moved(right: float = 0.0, down: float = 0.0, turn: float = 0.0) -> FourierFeatures:
    block = waves()
    t = torch.tensor([math.cos(turn), math.sin(turn), right, down], dtype=torch.float64)
    block.affine.bias = torch.nn.Parameter(t)
    return block


STYLES = torch.randn(2, 1, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_a_constant_is_the_same_for_every_image():
    x = Constant(dim=6, resolution=(3, 5))(torch.zeros(2, 0, 12))
    assert x.shape == (2, 6, 3, 5)
    assert torch.equal(x[0], x[1])
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_frequencies_fill_the_disc_of_the_bandwidth_evenly():
    radii = waves(dim=4000, bandwidth=3.0).freqs.norm(dim=1)
    assert radii.max() <= 3
    for share in (0.25, 0.5, 0.75):
        assert radii.quantile(share).item() == pytest.approx(3 * math.sqrt(share), rel=0.05)


def test_waves_move_with_the_style():
    still = moved()(STYLES)
    torch.testing.assert_close(moved(right=1 / 8)(STYLES)[..., 1:], still[..., :-1])  # 8 pixels per unit
    torch.testing.assert_close(moved(down=2 / 8)(STYLES)[..., 2:, :], still[..., :-2, :])


def test_waves_turn_with_the_style():
    torch.testing.assert_close(moved(turn=math.pi)(STYLES), moved()(STYLES).flip(2, 3))


def test_waves_do_not_depend_on_the_style_at_the_start():
    x = waves()(STYLES)
    torch.testing.assert_close(x[0], x[1])


def test_waves_above_half_the_sampling_rate_do_not_fit():
    with pytest.raises(
        IncompatibleError, match="waves of 4 per unit are not below half of 8 pixels per unit; take less than 4"
    ):
        FourierFeatures(12, bandwidth=4)


def test_tokens_know_their_place_in_columns_and_rows():
    block = LearnedTokens(dim=2, resolution=(3, 5))
    with torch.no_grad():
        block.fourier.linear.weight.copy_(torch.eye(2))
        block.fourier.linear.bias.zero_()
    x = block(torch.zeros(1, 0, 12))[0]
    torch.testing.assert_close(x[0, 0], torch.linspace(-1, 1, 5).sin())
    torch.testing.assert_close(x[1, :, 0], torch.linspace(-1, 1, 3).sin())
    assert torch.equal(x[0, 0], x[0, 2])


def test_free_tokens_have_no_place():
    block = LearnedTokens(dim=4, resolution=(3, 5), coordinates="free")
    assert [parameter.shape for parameter in block.parameters()] == [(3, 5, 4)]
    assert block(torch.zeros(2, 0, 12)).shape == (2, 4, 3, 5)
