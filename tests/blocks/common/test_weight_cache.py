"""What follows from a weight is kept while weights are promised to stay, and never a moment longer."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from assemblies import parse
from blocks.common.modulation import demodulation
from blocks.common.weight_cache import WeightCache, frozen_weights
from blocks.weight_norm.apply import normalize_weights
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm
from ganblocks import generate


@pytest.fixture
def counted():
    calls: list[int] = []

    def double(weight):
        calls.append(1)
        return 2 * weight

    return WeightCache(double), calls


def test_it_is_computed_once_under_the_promise(counted):
    derived, calls = counted
    weight = nn.Parameter(torch.ones(3))
    with torch.no_grad(), frozen_weights():
        assert derived(weight) is derived(weight)
    assert len(calls) == 1


def test_without_the_promise_nothing_is_kept_not_even_from_before(counted):
    derived, _ = counted
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], lr=1.0, fused=True)  # leaves no trace in weight._version
    with torch.no_grad():
        with frozen_weights():
            before = derived(weight)
        weight.grad = torch.ones(3)
        optimizer.step()
        for promise in (frozen_weights, torch.no_grad):
            with promise():
                assert torch.equal(derived(weight), 2 * weight)
    assert not torch.equal(before, 2 * weight)


def test_gradients_reach_the_weight_all_the_same(counted):
    derived, _ = counted
    weight = nn.Parameter(torch.ones(3))
    with frozen_weights():
        with torch.no_grad():
            derived(weight)
        derived(weight).sum().backward()
    assert weight.grad.tolist() == [2, 2, 2]


def test_what_is_kept_goes_with_its_weight(counted):
    derived, calls = counted
    with torch.no_grad(), frozen_weights():
        for _ in range(3):
            derived(torch.ones(3))
            gc.collect()
    assert len(calls) == 3


def test_a_normalised_map_is_the_same_kept_and_not():
    linear = nn.Linear(5, 7)
    normalize_weights(linear, ImprovedSpectralNorm.Spec())
    linear.eval()
    x = torch.randn(2, 5)
    with torch.no_grad():
        expected = linear(x)
        with frozen_weights():
            for _ in range(2):
                assert torch.equal(linear(x), expected)


def test_demodulation_is_the_same_kept_and_not():
    weight, style = nn.Parameter(torch.randn(6, 4, 3, 3)), torch.randn(2, 4)
    expected = ((weight * style[:, None, :, None, None]).square().sum((2, 3, 4)) + 1e-8).rsqrt()
    torch.testing.assert_close(demodulation(weight, style), expected)
    with torch.no_grad(), frozen_weights():
        for _ in range(2):
            torch.testing.assert_close(demodulation(weight, style), expected)


def test_samples_follow_weights_that_a_fused_optimiser_changed():
    synthesis = [
        {"kind": "constant", "resolution": 4, "dim": 8},
        {"kind": "modulated-conv", "dim": 8, "up": 2},
        {"kind": "to-rgb"},
    ]
    generator = parse({"kind": "layered", "z_dim": 8, "synthesis": synthesis}).build().eval()
    generate(generator, range(2))
    weight = next(value for name, value in generator.named_parameters() if name == "synthesis.1.weight")
    weight.grad = torch.randn_like(weight)
    torch.optim.Adam([weight], lr=1.0, fused=True).step()
    found = generate(generator, range(2))
    fresh = parse(generator.spec.to_dict()).build().eval()
    fresh.load_state_dict(generator.state_dict())
    torch.testing.assert_close(found, generate(fresh, range(2)))
