"""Weight norms on a whole network."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from blocks.common.equalized import EqualConv2d, EqualLinear
from blocks.families import WeightNorm
from blocks.weight_norm.apply import normalize_weights
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm
from blocks.weight_norm.spectral import SpectralNorm
from tests.blocks.weight_norm.net import Net

SPECS = [
    SpectralNorm.Spec(),
    ImprovedSpectralNorm.Spec(),
    ImprovedSpectralNorm.Spec(sigma="tracked"),
    ImprovedSpectralNorm.Spec(sigma="power-iteration"),
]


def sigma(weight: Tensor) -> Tensor:
    return torch.linalg.svdvals(weight.flatten(1))[0]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_normalised_network_builds_copies_and_restores(spec: WeightNorm.Spec) -> None:
    torch.manual_seed(0)
    net, other = Net(), Net()
    normalize_weights(net, spec)
    normalize_weights(other, spec.to_dict())
    layers = [net.conv, net.plain, net.row, net.hidden, net.out]
    assert all(hasattr(part, "parametrizations") for part in layers)
    assert not hasattr(net.norm, "parametrizations")
    assert isinstance(net.hidden, EqualLinear)
    assert len(list(net.parameters())) == len(list(Net().parameters()))

    x = torch.randn(2, 3, 5, 7)
    net(x).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    net.eval()
    twin = copy.deepcopy(net)
    other.eval().load_state_dict(net.state_dict(), strict=True)
    for same in (twin, other):
        torch.testing.assert_close(same(x), net(x), rtol=0, atol=0)
    with torch.no_grad():
        twin.out.parametrizations.weight.original.mul_(0.5)
        assert not torch.equal(twin.out.parametrizations.weight.original, net.out.parametrizations.weight.original)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_normalised_network_works_on_the_meta_device(spec: WeightNorm.Spec) -> None:
    with torch.device("meta"):
        net = Net()
        normalize_weights(net, spec)
        assert net(torch.randn(2, 3, 5, 7)).shape == (2, 2)
    assert all(value.is_meta for value in net.state_dict().values())


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_normalised_network_compiles_to_one_graph(spec: WeightNorm.Spec) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = Net()
    normalize_weights(net, spec)
    twin, x = copy.deepcopy(net), torch.randn(2, 3, 5, 7)
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    for _ in range(3):  # the vectors advance alike
        torch.testing.assert_close(compiled(x), net(x))
    for name, value in net.state_dict().items():
        torch.testing.assert_close(twin.state_dict()[name], value, msg=name)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_gradient_penalty_passes_through_a_normalised_network(spec: WeightNorm.Spec) -> None:
    torch.manual_seed(0)
    net = Net().double()
    normalize_weights(net, spec)
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert net.conv.parametrizations.weight.original.grad.abs().max() > 0


def test_an_equalised_layer_loses_its_scale_under_spectral_norm_only() -> None:
    torch.manual_seed(0)
    plain, x = EqualLinear(64, 32), torch.randn(4, 64)
    improved, spectral = copy.deepcopy(plain), copy.deepcopy(plain)
    normalize_weights(improved, ImprovedSpectralNorm.Spec())
    torch.testing.assert_close(improved(x), plain(x), rtol=1e-4, atol=1e-5)

    normalize_weights(spectral, SpectralNorm.Spec())
    for _ in range(100):
        spectral(x)
    effective = spectral(torch.eye(64)).T
    torch.testing.assert_close(sigma(effective).item(), 1.0, rtol=1e-4, atol=0)
    torch.testing.assert_close(effective * sigma(plain.weight), plain.weight.detach(), rtol=1e-3, atol=1e-4)


def test_a_training_pass_is_one_power_iteration_and_repr_is_none() -> None:
    torch.manual_seed(0)
    for layer, x in ((EqualLinear(6, 5), torch.randn(2, 6)), (EqualConv2d(3, 5, 3), torch.randn(2, 3, 4, 4))):
        normalize_weights(layer, SpectralNorm.Spec())
        norm = layer.get_submodule("parametrizations.weight.0")
        alone, raw = copy.deepcopy(norm), layer.parametrizations.weight.original
        repr(layer)
        layer(x)
        alone(raw)
        torch.testing.assert_close(norm.u, alone.u, rtol=0, atol=0)


def test_a_weight_that_is_normalised_already_is_not_changed() -> None:
    net = Net()
    normalize_weights(net.out, ImprovedSpectralNorm.Spec())
    normalize_weights(net, SpectralNorm.Spec())
    assert [type(norm) for norm in net.out.parametrizations.weight] == [ImprovedSpectralNorm]
    assert [type(norm) for norm in net.plain.parametrizations.weight] == [SpectralNorm]
