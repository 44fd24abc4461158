"""The dense head."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from blocks.common.equalized import leaky_relu
from blocks.head.linear import LinearHead
from registry import IncompatibleError
from tests.tensors import normal


@pytest.mark.parametrize("hidden_dim", [None, 10])
def test_the_logit_is_two_equalised_layers(hidden_dim: int | None) -> None:
    torch.manual_seed(0)
    head, x = LinearHead(6, (2, 3), hidden_dim=hidden_dim).double(), normal(4, 6, 2, 3)
    y = x.reshape(4, 36)
    if hidden_dim:
        y = leaky_relu(y @ head.hidden.weight.T / 6)
    torch.testing.assert_close(head(x), y @ head.out.weight.T / math.sqrt(y.shape[1]))


def test_two_biases_of_the_hidden_layer_add_up() -> None:
    torch.manual_seed(0)
    head, x = LinearHead(6, (2, 3), hidden_dim=10, num_biases=2).double(), normal(4, 6, 2, 3)
    nn.init.normal_(head.hidden.bias)
    nn.init.normal_(head.bias2)
    hidden = leaky_relu(x.reshape(4, 36) @ head.hidden.weight.T / 6 + head.hidden.bias + head.bias2)
    torch.testing.assert_close(head(x), hidden @ head.out.weight.T / math.sqrt(10))
    with pytest.raises(IncompatibleError, match="2 biases need a hidden layer; set hidden_dim"):
        LinearHead(6, (2, 3), hidden_dim=None, num_biases=2)


@pytest.mark.parametrize("mapping", [None, {"kind": "mapping", "num_layers": 2}])
def test_a_conditional_head_is_a_scalar_product_with_the_embedded_condition(mapping: Any) -> None:
    torch.manual_seed(0)
    head = LinearHead(6, (2, 3), 5, hidden_dim=10, mapping=mapping).double().eval()
    x, c = normal(4, 6, 2, 3), normal(4, 5, seed=1)
    projection = head.projection
    features = head.out(head.hidden(x.flatten(1)))
    embedded = projection.embed(c) if mapping is None else projection.mapping(c.new_zeros(4, 0), c)[:, 0]
    assert embedded.shape == (4, 10)
    torch.testing.assert_close(head(x, c), (features * embedded).sum(dim=1, keepdim=True) / math.sqrt(10))
    with pytest.raises(ValueError, match=r"linear: c is missing; pass a condition for each sample, \[B, 5\]"):
        head(x)
