"""Spectral norm and its improved form: their sums, their state, and hanging them on networks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blocks.common.equalized import EqualConv2d, EqualLinear
from blocks.families import WeightNorm
from blocks.weight_norm.apply import normalize_weights
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm
from blocks.weight_norm.spectral import SpectralNorm

SPECS = [
    SpectralNorm.Spec(),
    ImprovedSpectralNorm.Spec(),
    ImprovedSpectralNorm.Spec(sigma="tracked"),
    ImprovedSpectralNorm.Spec(sigma="power-iteration"),
]
SHAPES = [(7, 12), (12, 7), (5, 3, 3, 3)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sigma(weight: Tensor) -> Tensor:
    return torch.linalg.svdvals(weight.flatten(1))[0]


class Net(nn.Module):
    """One of each map that has a weight, and things that must be left alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = EqualConv2d(3, 6, 3, activation="lrelu")
        self.plain = nn.Conv2d(6, 4, 1)
        self.norm = nn.LayerNorm(4)
        self.row = nn.Conv1d(4, 4, 3, padding=1)
        self.hidden = EqualLinear(4, 8, activation="lrelu")
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.plain(self.conv(x)).flatten(2).mT)
        return self.out(self.hidden(self.row(y.mT).mT)).mean(dim=1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_spectral_norm_converges_to_norm_one(shape: tuple[int, ...]) -> None:
    weight = random(*shape)
    norm = SpectralNorm(weight).double()
    for _ in range(200):
        normalised = norm(weight)
    torch.testing.assert_close(sigma(normalised), torch.ones_like(sigma(weight)), rtol=1e-9, atol=0)
    torch.testing.assert_close(normalised * sigma(weight), weight, rtol=1e-9, atol=1e-12)


def test_a_training_pass_iterates_v_then_u_once_and_evaluation_takes_them_as_they_are() -> None:
    weight = random(5, 8)
    norm = SpectralNorm(weight).double()
    norm.u.copy_(random(5, seed=1))
    norm.v.copy_(random(8, seed=2))
    u, v = norm.u.clone(), norm.v.clone()
    torch.testing.assert_close(norm.eval()(weight), weight / (u @ weight @ v))
    assert torch.equal(norm.u, u)
    v = weight.T @ u
    v = v / v.norm()
    u = weight @ v
    u = u / u.norm()
    torch.testing.assert_close(norm.train()(weight), weight / (u @ weight @ v))
    torch.testing.assert_close(norm.u, u)
    torch.testing.assert_close(norm.v, v)


def test_u_and_v_are_constants_for_the_gradient_of_spectral_norm() -> None:
    weight = random(5, 8).requires_grad_()
    norm = SpectralNorm(weight).double().eval()
    cotangent = random(5, 8, seed=3)
    (gradient,) = torch.autograd.grad((norm(weight) * cotangent).sum(), weight)
    size = norm.u @ weight @ norm.v
    expected = cotangent / size - (cotangent * weight).sum() / size**2 * torch.outer(norm.u, norm.v)
    torch.testing.assert_close(gradient, expected)


def test_two_passes_before_one_backward_pass_do_not_disturb_each_other() -> None:
    weight = random(5, 8).requires_grad_()
    norm = SpectralNorm(weight).double()
    (norm(weight).sum() + norm(weight).sum()).backward()
    assert weight.grad is not None


@pytest.mark.parametrize("how", ["exact", "tracked"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_improved_spectral_norm_begins_as_the_identity(how: Any, shape: tuple[int, ...]) -> None:
    weight = random(*shape)
    norm = ImprovedSpectralNorm(weight, sigma=how)
    torch.testing.assert_close(norm.sigma_init, sigma(weight))
    for _ in range(200 if how == "tracked" else 1):
        normalised = norm(weight)
    torch.testing.assert_close(normalised, weight, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("how", ["exact", "tracked"])
def test_improved_spectral_norm_keeps_the_first_norm_whatever_the_weight_becomes(how: Any) -> None:
    norm = ImprovedSpectralNorm(random(7, 12), sigma=how, power_iterations=300)
    later = 5 * random(7, 12, seed=1)
    torch.testing.assert_close(sigma(norm(later)), norm.sigma_init, rtol=1e-9, atol=0)
    torch.testing.assert_close(norm(later), norm(later / 7), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exact_sigma_and_its_gradient_are_those_of_a_singular_value_decomposition(shape: tuple[int, ...]) -> None:
    weight = random(*shape).requires_grad_()
    norm, cotangent = ImprovedSpectralNorm(random(*shape, seed=1)), random(*shape, seed=2)
    (found,) = torch.autograd.grad((norm(weight) * cotangent).sum(), weight)
    (expected,) = torch.autograd.grad((weight * norm.sigma_init / sigma(weight) * cotangent).sum(), weight)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_the_authors_power_iteration_never_advances_and_passes_gradients_to_u() -> None:
    weight = random(7, 12).requires_grad_()
    norm = ImprovedSpectralNorm(weight, sigma="power-iteration").double()
    norm.u.requires_grad_()
    before = norm.u.detach().clone()
    first, second = norm.train()(weight), norm.eval()(weight)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert torch.equal(norm.u, before)
    assert sigma(first) > norm.sigma_init  # sigma comes out too small
    assert torch.autograd.grad(first.sum(), norm.u)[0].abs().max() > 0


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_normalised_network_builds_copies_and_restores(spec: WeightNorm.Spec) -> None:
    torch.manual_seed(0)
    net, other = Net(), Net()
    normalize_weights(net, spec)
    normalize_weights(other, spec)
    maps = [net.conv, net.plain, net.row, net.hidden, net.out]
    assert all(hasattr(part, "parametrizations") for part in maps)
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
def test_a_normalised_network_lives_on_the_meta_device(spec: WeightNorm.Spec) -> None:
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


def test_an_equalised_map_keeps_its_scale_under_improved_and_drops_it_under_spectral_norm() -> None:
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


def test_one_forward_pass_is_one_power_iteration_and_printing_is_none() -> None:
    torch.manual_seed(0)
    for layer, x in ((EqualLinear(6, 5), torch.randn(2, 6)), (EqualConv2d(3, 5, 3), torch.randn(2, 3, 4, 4))):
        normalize_weights(layer, SpectralNorm.Spec())
        norm = layer.get_submodule("parametrizations.weight.0")
        alone, raw = copy.deepcopy(norm), layer.parametrizations.weight.original
        repr(layer)
        layer(x)
        alone(raw)
        torch.testing.assert_close(norm.u, alone.u, rtol=0, atol=0)


def test_a_weight_that_a_block_has_normalised_itself_is_left_alone() -> None:
    net = Net()
    normalize_weights(net.out, ImprovedSpectralNorm.Spec())
    normalize_weights(net, SpectralNorm.Spec())
    assert [type(norm) for norm in net.out.parametrizations.weight] == [ImprovedSpectralNorm]
    assert [type(norm) for norm in net.plain.parametrizations.weight] == [SpectralNorm]
