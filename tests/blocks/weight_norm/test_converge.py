"""Weight norms of averaged weights: power iterations brought to convergence."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from blocks.families import WeightNorm
from blocks.weight_norm.apply import normalize_weights
from blocks.weight_norm.converge import converge_weight_norms, converged_weight_norms
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm
from blocks.weight_norm.spectral import SpectralNorm, singular_vectors
from tests.blocks.weight_norm.net import Net
from tests.tensors import normal

TRACKED = [SpectralNorm.Spec(), ImprovedSpectralNorm.Spec(sigma="tracked")]


def averaged(spec: WeightNorm.Spec) -> Net:
    """A network whose weights are not those that its power iterations saw."""
    torch.manual_seed(0)
    net = Net()
    normalize_weights(net, spec)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter))
    return net.eval()


def sigmas(net: Net) -> Tensor:
    """Largest singular value of each weight over the one that its norm should give it."""
    values = []
    for layer in (net.conv, net.plain, net.row, net.hidden, net.out):
        norm = layer.parametrizations.weight[0]
        target = norm.sigma_init if isinstance(norm, ImprovedSpectralNorm) else 1.0
        values.append(torch.linalg.svdvals(layer.weight.detach().flatten(1))[0] / target)
    return torch.stack(values)


@pytest.mark.parametrize("spec", TRACKED, ids=str)
def test_converged_norms_have_their_target(spec: WeightNorm.Spec) -> None:
    net = averaged(spec)
    assert (sigmas(net) - 1).abs().max() > 0.05
    converge_weight_norms(net)
    torch.testing.assert_close(sigmas(net), torch.ones(5), rtol=1e-4, atol=0)


@pytest.mark.parametrize("spec", [*TRACKED, ImprovedSpectralNorm.Spec(sigma="power-iteration")], ids=str)
def test_the_context_restores_the_network(spec: WeightNorm.Spec) -> None:
    net = averaged(spec)
    before = copy.deepcopy(net.state_dict())
    with converged_weight_norms(net):
        if spec in TRACKED:
            torch.testing.assert_close(sigmas(net), torch.ones(5), rtol=1e-4, atol=0)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_network_without_weight_norms_is_not_changed() -> None:
    net = nn.Linear(3, 4)
    weight = net.weight.clone()
    with converged_weight_norms(net):
        assert torch.equal(net.weight, weight)


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (6, 6)])
def test_singular_vectors_are_those_of_a_singular_value_decomposition(shape: tuple[int, int]) -> None:
    matrix = normal(*shape)
    u, v = singular_vectors(matrix)
    left, values, right = torch.linalg.svd(matrix)
    torch.testing.assert_close(u @ matrix @ v, values[0])
    torch.testing.assert_close(torch.outer(u, v), torch.outer(left[:, 0], right[0]))
