"""The class token head."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from blocks.head.class_token import ClassTokenHead
from registry import IncompatibleError
from tests.tensors import normal


def test_hidden_layers_and_a_final_gelu():
    head, x = ClassTokenHead(8, (1, 5), hidden_dim=(7, 6), gelu_at_the_end=True).double(), normal(3, 8, 1, 5)
    y = head.norm(x[:, :, 0, 0])
    for layer in (head.hidden[0], head.hidden[2], head.out):
        y = F.gelu(layer(y))
    torch.testing.assert_close(head(x), y)
    assert (head(x) > -0.18).all()


def test_only_the_first_token_counts() -> None:
    torch.manual_seed(0)
    head, x = ClassTokenHead(6, (1, 7), hidden_dim=9), torch.randn(2, 6, 1, 7)
    assert head(x).shape == (2, 1)
    torch.testing.assert_close(head(x), head(torch.cat([x[..., :1], x[..., 1:] * 9], dim=3)))


def test_a_map_of_several_rows_is_incompatible() -> None:
    with pytest.raises(IncompatibleError, match="the features are 4x4; set class_token: true in overlapping-patches"):
        ClassTokenHead(6, (4, 4))
