"""What follows from a weight is kept while the weight stays, and never a moment longer."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from torch import nn

from blocks.derived import Derived
from blocks.modulation import demodulation
from blocks.weight_norm.apply import normalize_weights
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm


@pytest.fixture
def counted():
    calls: list[int] = []

    def double(weight):
        calls.append(1)
        return 2 * weight

    return Derived(double), calls


def test_it_is_computed_once_without_gradients(counted):
    derived, calls = counted
    weight = nn.Parameter(torch.ones(3))
    with torch.no_grad():
        assert derived(weight) is derived(weight)
    assert len(calls) == 1


def test_gradients_reach_the_weight(counted):
    derived, calls = counted
    weight = nn.Parameter(torch.ones(3))
    with torch.no_grad():
        derived(weight)
    derived(weight).sum().backward()
    assert weight.grad.tolist() == [2, 2, 2]
    assert len(calls) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda weight: weight.mul_(3),
        lambda weight: nn.Module.load_state_dict(_holding(weight), {"weight": torch.full((3,), 3.0)}),
        lambda weight: setattr(weight, "data", weight.data * 3),
    ],
    ids=["in place", "loaded", "other memory"],
)
def test_a_weight_that_changes_is_computed_anew(counted, change):
    derived, _ = counted
    weight = nn.Parameter(torch.ones(3))
    with torch.no_grad():
        derived(weight)
        change(weight)
        assert derived(weight).tolist() == [6, 6, 6]


def _holding(weight):
    module = nn.Module()
    module.weight = weight
    return module


def test_what_is_kept_goes_with_its_weight(counted):
    derived, _ = counted
    weight = nn.Parameter(torch.ones(3))
    with torch.no_grad():
        derived(weight)
    del weight
    gc.collect()
    assert len(derived.kept) == 0


def test_nothing_is_kept_in_inference_mode(counted):
    derived, calls = counted
    with torch.inference_mode():
        weight = torch.ones(3)
        derived(weight), derived(weight)
    assert len(calls) == 2


def test_a_normalised_map_follows_its_weight_and_its_buffers():
    linear = nn.Linear(5, 7)
    normalize_weights(linear, ImprovedSpectralNorm.Spec())
    linear.eval()
    x = torch.randn(2, 5)
    with torch.no_grad():
        first = linear(x)
        assert torch.equal(linear(x), first)
        twin = copy.deepcopy(linear)
        twin.parametrizations.weight[0].sigma_init.mul_(2)
        assert torch.allclose(twin(x) - twin.bias, 2 * (first - linear.bias), atol=1e-6)
        assert torch.equal(linear(x), first)


def test_demodulation_is_the_same_kept_and_not():
    weight, style = nn.Parameter(torch.randn(6, 4, 3, 3)), torch.randn(2, 4)
    expected = ((weight * style[:, None, :, None, None]).square().sum((2, 3, 4)) + 1e-8).rsqrt()
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(demodulation(weight, style), expected)
    torch.testing.assert_close(demodulation(weight, style), expected)
