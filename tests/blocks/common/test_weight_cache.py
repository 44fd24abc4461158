"""The cache of values that depend on a weight: results are kept inside `frozen_weights` only."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from assemblies import parse
from blocks.common.modulation import demodulation_factors
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


def test_a_value_is_computed_once_inside_the_context(counted):
    cached, calls = counted
    weight = nn.Parameter(torch.ones(3))
    with torch.no_grad(), frozen_weights():
        assert cached(weight) is cached(weight)
    assert len(calls) == 1


def test_nothing_is_kept_outside_the_context(counted):
    cached, _ = counted
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], lr=1.0, fused=True)  # does not change weight._version
    with torch.no_grad():
        with frozen_weights():
            before = cached(weight)
        weight.grad = torch.ones(3)
        optimizer.step()
        for context in (frozen_weights, torch.no_grad):
            with context():
                assert torch.equal(cached(weight), 2 * weight)
    assert not torch.equal(before, 2 * weight)


def test_gradients_flow_to_the_weight(counted):
    cached, _ = counted
    weight = nn.Parameter(torch.ones(3))
    with frozen_weights():
        with torch.no_grad():
            cached(weight)
        cached(weight).sum().backward()
    assert weight.grad.tolist() == [2, 2, 2]


def test_results_are_freed_with_their_weight(counted):
    cached, calls = counted
    with torch.no_grad(), frozen_weights():
        for _ in range(3):
            cached(torch.ones(3))
            gc.collect()
    assert len(calls) == 3


@pytest.fixture
def megabyte(monkeypatch):
    """A cache of results of 1 MiB each, 2 MiB of which are kept, and the weights that it computed results of."""
    monkeypatch.setenv("GANBLOCKS_WEIGHT_CACHE", "2")
    computed: list[torch.Tensor] = []

    def compute(weight):
        computed.append(weight)
        return torch.zeros(2**18)

    return WeightCache(compute), computed


@torch.no_grad()
def test_results_beyond_the_budget_are_computed_at_each_call_and_the_others_stay(megabyte):
    cached, computed = megabyte
    a, b, c = (torch.zeros(1) for _ in range(3))
    with frozen_weights():
        for _ in range(2):
            for weight in (a, b, c):
                cached(weight)
        assert [id(each) for each in computed] == [id(each) for each in (a, b, c, c)]


@torch.no_grad()
def test_results_that_are_no_longer_used_are_replaced(megabyte):
    cached, computed = megabyte
    a, b, c, d = (torch.zeros(1) for _ in range(4))
    with frozen_weights():
        for weight in (a, b, c, d, c, d, c, d):
            cached(weight)
        assert len(computed) == 6  # the results of c and d are kept from their second call on
        cached(a)
        assert computed[-1] is a


@torch.no_grad()
def test_the_memory_of_freed_weights_counts_no_more(megabyte):
    cached, computed = megabyte
    with frozen_weights():
        a, b = torch.zeros(1), torch.zeros(1)
        cached(a), cached(b)
        del a, b
        computed.clear()
        gc.collect()
        c = torch.zeros(1)
        assert cached(c) is cached(c)


def test_a_budget_that_is_no_number_is_an_error(monkeypatch):
    monkeypatch.setenv("GANBLOCKS_WEIGHT_CACHE", "64MB")
    with pytest.raises(ValueError, match="GANBLOCKS_WEIGHT_CACHE='64MB' is not a number of MiB; set it to 64"):
        frozen_weights().__enter__()


def test_a_normalised_layer_gives_the_same_with_the_cache():
    linear = nn.Linear(5, 7)
    normalize_weights(linear, ImprovedSpectralNorm.Spec())
    linear.eval()
    x = torch.randn(2, 5)
    with torch.no_grad():
        expected = linear(x)
        with frozen_weights():
            for _ in range(2):
                assert torch.equal(linear(x), expected)


def test_demodulation_gives_the_same_with_the_cache():
    weight, style = nn.Parameter(torch.randn(6, 4, 3, 3)), torch.randn(2, 4)
    expected = ((weight * style[:, None, :, None, None]).square().sum((2, 3, 4)) + 1e-8).rsqrt()
    torch.testing.assert_close(demodulation_factors(weight, style), expected)
    with torch.no_grad(), frozen_weights():
        for _ in range(2):
            torch.testing.assert_close(demodulation_factors(weight, style), expected)


def test_samples_change_after_a_step_of_a_fused_optimiser():
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
    images = generate(generator, range(2))
    fresh = parse(generator.spec.to_dict()).build().eval()
    fresh.load_state_dict(generator.state_dict())
    torch.testing.assert_close(images, generate(fresh, range(2)))
