"""Initial weights of linear layers, and layers that learn slowly."""

from __future__ import annotations

import math

import torch

from blocks.common.linear import SlowLinear, linear


def test_weights_are_normal_or_uniform_and_biases_zero() -> None:
    torch.manual_seed(0)
    normal, uniform = linear(300, 200), linear(300, 200, init="xavier-uniform", gain=0.1)
    bound = 0.1 * math.sqrt(6 / 500)
    assert abs(normal.weight.std().item() - 0.02) < 2e-4
    assert 0.99 * bound < uniform.weight.abs().max().item() <= bound
    assert normal.bias is not None
    assert not normal.bias.any()


def test_a_slow_layer_starts_like_another_and_moves_by_less() -> None:
    torch.manual_seed(0)
    layer, x = SlowLinear(30, 20, lr_multiplier=0.01), torch.randn(4, 30)
    bound = math.sqrt(6 / 50)
    effective = layer.lr_multiplier * layer.weight.detach()
    assert 0.95 * bound < effective.abs().max().item() <= bound * (1 + 1e-6)
    before = layer(x)
    torch.testing.assert_close(before, x @ effective.mT)
    before.sum().backward()
    torch.optim.Adam(layer.parameters(), lr=1e-3, betas=(0.0, 0.99)).step()
    moved = layer.lr_multiplier * layer.weight.detach() - effective
    torch.testing.assert_close(moved.abs().mean(), torch.tensor(1e-5), rtol=1e-2, atol=0)
