"""Learned tokens: coordinates, free angles, an added style."""

from __future__ import annotations

import pytest
import torch

from blocks.families import to_nhwc
from blocks.synthesis_input.learned_tokens import LearnedTokens
from registry import IncompatibleError
from tests.tensors import normal


def test_tokens_depend_on_their_coordinates():
    block = LearnedTokens(dim=2, resolution=(3, 5))
    with torch.no_grad():
        block.fourier.linear.weight.copy_(torch.eye(2))
        block.fourier.linear.bias.zero_()
    x = block(torch.zeros(1, 0, 12))[0]
    torch.testing.assert_close(x[0, 0], torch.linspace(-1, 1, 5).sin())
    torch.testing.assert_close(x[1, :, 0], torch.linspace(-1, 1, 3).sin())
    assert torch.equal(x[0, 0], x[0, 2])


def test_free_tokens_have_one_angle_per_feature():
    block = LearnedTokens(dim=4, resolution=(3, 5), coordinates="free")
    assert [parameter.shape for parameter in block.parameters()] == [(3, 5, 4)]
    assert block(torch.zeros(2, 0, 12)).shape == (2, 4, 3, 5)


def test_the_style_can_be_added_to_the_tokens():
    tokens, ws = LearnedTokens(12, dim=12, resolution=(2, 3), latent="add").double(), normal(2, 1, 12)
    assert tokens.num_styles == 1
    plain = to_nhwc(tokens(torch.zeros_like(ws)))
    torch.testing.assert_close(to_nhwc(tokens(ws)), plain + ws[:, 0, None, None])
    for style_dim, message in ((None, "there are no style vectors"), (8, "style vectors have 8 features")):
        with pytest.raises(IncompatibleError, match=message):
            LearnedTokens(style_dim, dim=12, latent="add")


def test_a_style_of_another_width_is_refused() -> None:
    tokens = LearnedTokens(12, dim=12, resolution=(2, 3), latent="add")
    with pytest.raises(ValueError, match=r"learned-tokens: ws should have shape \[2, 1, 12\], not \[2, 1, 1\]"):
        tokens(torch.randn(2, 1, 1))
