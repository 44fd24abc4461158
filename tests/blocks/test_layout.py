"""Weights are stored in channels-last order in the memory that they have."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from blocks import FromRGB, FromWavelets, LinearFromRGB
from blocks.families import to_channels_last


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(6, 4, 3), nn.Linear(3, 5)
        self.part = nn.Parameter(torch.randn(2, 4, 6, 3, 3)[1])
        self.register_buffer("filter", torch.randn(1, 2, 4, 4))
        self.register_buffer("count", torch.zeros(()))


def test_the_values_and_strides_are_those_of_module_to():
    network = Network()
    expected = copy.deepcopy(network).to(memory_format=torch.channels_last)
    assert to_channels_last(network) is network
    for (name, tensor), other in zip(network.state_dict().items(), expected.state_dict().values(), strict=True):
        assert tensor.stride() == other.stride(), name
        assert torch.equal(tensor, other), name


def test_each_parameter_keeps_its_memory_and_its_gradient_function():
    network = Network()
    before = {name: (id(each), each.data_ptr()) for name, each in network.named_parameters()}
    to_channels_last(to_channels_last(network))
    for name, parameter in network.named_parameters():
        same_memory = name != "part"  # whose memory is part of a larger tensor's
        assert (id(parameter), parameter.data_ptr()) == before[name] or not same_memory, name
    network.conv(torch.randn(1, 6, 5, 5)).sum().backward()
    assert network.conv.weight.grad is not None


@pytest.mark.parametrize(
    "stem", [FromRGB(3, dim=8), FromWavelets(3, 8, dim=8), LinearFromRGB(3, dim=8)], ids=lambda stem: stem.spec.kind
)
def test_stems_make_channels_last_maps_and_have_gradients_of_each_sample(stem: nn.Module) -> None:
    images, weights = torch.randn(2, 3, 8, 8), dict(stem.named_parameters())
    assert stem(None, images)[0].is_contiguous(memory_format=torch.channels_last)

    def loss(weights: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        return functional_call(stem, weights, (None, image[None]))[0].square().sum()

    of_samples = vmap(grad(loss), (None, 0))(weights, images)
    for name, expected in grad(loss)(weights, images[1]).items():
        torch.testing.assert_close(of_samples[name][1], expected)
