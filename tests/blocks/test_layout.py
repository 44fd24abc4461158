"""Weights are stored in channels-last order in the memory that they have."""

from __future__ import annotations

import copy

import torch
from torch import nn

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
