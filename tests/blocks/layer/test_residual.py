"""Residual connections: norm, layer scale, styles and errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from blocks.layer.residual import Residual
from registry import IncompatibleError


def test_the_normalised_shortcut_is_the_output_of_the_norm() -> None:
    block = Residual(8, 4, 5, norm={"kind": "group-norm", "num_groups": 2}, layer_scale=0.3).eval()
    x, ws = torch.randn(2, 8, 4, 4), torch.randn(2, 1, 5)
    normalized = nn.functional.group_norm(x, 2)
    torch.testing.assert_close(block(x, ws), math.sqrt(2) * (normalized + 0.3 * block.layer(normalized, ws)))


def test_the_raw_shortcut_is_the_input() -> None:
    block = Residual(8, 4, norm=None, layer={"kind": "conv", "dim": 8}, layer_scale=1.0, residual="raw", gain=1.0)
    x = torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(block(x), x + block.layer(x))


def test_layer_and_norm_have_separate_styles_and_errors_are_reported() -> None:
    block = Residual(8, 4, 5, norm="adain")
    assert block.num_styles == 2
    with pytest.raises(IncompatibleError, match="a residual branch holds one layer, not 2; set repeat on the residual"):
        Residual(8, 4, 5, layer={"kind": "modulated-conv", "repeat": 2})
    with pytest.raises(ValueError, match=r"the layer turns \[8, 4, 4\] into \[6, 4, 4\]"):
        Residual(8, 4, norm=None, layer={"kind": "conv", "dim": 6})(torch.zeros(1, 8, 4, 4))
