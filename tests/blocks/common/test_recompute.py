"""State that a forward pass updates is not updated again when checkpointing recomputes it."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from blocks.common.recompute import is_recomputing
from blocks.mapping.mapping import MappingNetwork
from blocks.weight_norm.apply import normalize_weights
from blocks.weight_norm.spectral import SpectralNorm


def test_only_recomputation_is_recognised() -> None:
    passes: list[bool] = []

    def record(x: torch.Tensor) -> torch.Tensor:
        passes.append(is_recomputing())
        return x.sin()

    x = torch.ones(3, requires_grad=True)
    (slope,) = torch.autograd.grad(record(x).sum(), x, create_graph=True)
    record(slope).sum().backward()
    assert passes == [False, False]
    checkpoint(record, x, use_reentrant=False).sum().backward()
    assert passes[2:] == [False, True]


def test_spectral_norm_iterates_once_under_checkpointing() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5), torch.randn(2, 6)
    normalize_weights(layer, SpectralNorm.Spec())
    raw = layer.parametrizations.weight.original
    before = layer.parametrizations.weight[0].u.clone()
    layer(x).sum().backward()
    expected, u = raw.grad.clone(), layer.parametrizations.weight[0].u.clone()
    raw.grad = None
    layer.parametrizations.weight[0].u.copy_(before)
    checkpoint(layer, x, use_reentrant=False).sum().backward()
    torch.testing.assert_close(raw.grad, expected)
    torch.testing.assert_close(layer.parametrizations.weight[0].u, u)


def test_the_mean_style_moves_once_under_checkpointing() -> None:
    mapping, z = MappingNetwork(6, 5, 2, num_layers=1), torch.randn(4, 6, requires_grad=True)
    mapping(z)
    expected = mapping.w_avg.clone()
    mapping.w_avg.zero_()
    checkpoint(mapping, z, use_reentrant=False).sum().backward()
    assert torch.equal(mapping.w_avg, expected)
