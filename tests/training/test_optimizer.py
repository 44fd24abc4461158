"""Adam of one network: its correction for lazy regularizers, its learning rate, frozen parameters, memory layouts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from assemblies import Adam, parse
from ganblocks.training.optimizer import NetworkOptimizer, corrected, named_regularizers
from tests import tiny


def optimizer_of(network, adam=None):
    return NetworkOptimizer("generator", network, adam or Adam(), [])


def test_frozen_parameters_stay_frozen():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    network[0].requires_grad_(False)
    optimizer = optimizer_of(network)
    with optimizer.trainable():
        assert [parameter.requires_grad for parameter in network.parameters()] == [False, False, True, True]
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_adam_is_corrected_for_lazy_regularizers():
    adam = Adam(lr=0.002, betas=(0.5, 0.99))
    assert corrected(adam, []) == (0.002, (0.5, 0.99))
    lr, betas = corrected(adam, [16])
    assert lr == pytest.approx(0.002 * 16 / 17)
    assert betas == (pytest.approx(0.5 ** (16 / 17)), pytest.approx(0.99 ** (16 / 17)))


def test_the_learning_rate_is_scaled_to_the_width_of_the_network():
    schedule = {"kind": "linear", "init": 0.1, "final": 0.2, "kimg": 1}
    adam = Adam(lr=schedule, base_width=768, width=1024)
    assert [corrected(adam, [], images)[0] for images in (0, 1000)] == [pytest.approx(0.075), pytest.approx(0.15)]
    with pytest.raises(ValueError, match="width is missing; give both widths or none"):
        Adam(base_width=768)


def test_the_learning_rate_falls_to_zero_over_the_last_images():
    optimizer = optimizer_of(nn.Linear(1, 1), Adam(lr=0.1, decay_kimg=10))
    rates = []
    for left in (100, 10, 5, 0, -1):
        optimizer.set_rates(1, left)
        rates.append(optimizer.adam.param_groups[0]["lr"])
    assert rates == [0.1, 0.1, 0.05, 0, 0]


@pytest.mark.parametrize(
    ("images", "left", "expected"), [(0, 80, 0.1), (40e3, 40, 0.1), (60e3, 20, 0.05), (80e3, 0, 0)]
)
def test_the_learning_rate_falls_over_a_fraction_of_the_training(images, left, expected):
    optimizer = optimizer_of(nn.Linear(1, 1), Adam(lr=0.1, decay_fraction=0.5))
    optimizer.set_rates(images / 1000, left, int(images))
    assert optimizer.rate == pytest.approx(expected)


def test_the_learning_rate_rises_over_the_first_images():
    optimizer = optimizer_of(nn.Linear(1, 1), Adam(lr=0.1, warmup_kimg=4))
    rates = []
    for kimg in (1, 2, 4, 8):
        optimizer.set_rates(kimg, 100)
        rates.append(optimizer.adam.param_groups[0]["lr"])
    assert rates == [0.025, 0.05, 0.1, 0.1]


def test_adam_receives_gradients_with_the_layout_of_their_parameters():
    weight = torch.randn(8, 4, 3, 3)
    gradient = torch.randn(8, 4, 3, 3)
    layouts = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}
    weights = {}
    for name, layout in layouts.items():
        network = nn.Conv2d(4, 8, 3, bias=False)
        network.weight.data = weight.clone().to(memory_format=layout)
        optimizer = optimizer_of(network)
        for scale in (1, 2, 3):
            network.weight.grad = scale * gradient
            optimizer.gradients()
            optimizer.adam.step()
        weights[name] = network.weight.detach().clone()
    torch.testing.assert_close(weights["channels-last"], weights["contiguous"])


def test_regularizers_of_one_kind_are_numbered():
    spec = parse(tiny.gan(regularizers=["r1", {"kind": "r1", "every": 4}, "bcr"]))
    assert [each.name for each in named_regularizers(spec.build().regularizers)] == ["r1-1", "r1-2", "bcr"]


def test_learning_rate_and_betas_follow_their_schedules():
    lr = {"kind": "linear", "init": 0.2, "final": 0.1, "kimg": 1}
    beta2 = {"kind": "linear", "init": 0.9, "final": 0.99, "kimg": 1}
    optimizer = optimizer_of(nn.Linear(1, 1), Adam(lr=lr, betas=(0, beta2)))
    rates = []
    for images in (0, 500, 1000):
        optimizer.set_rates(images / 1000, 100, images)
        rates.append((optimizer.adam.param_groups[0]["lr"], *optimizer.adam.param_groups[0]["betas"]))
    assert rates == [pytest.approx(expected) for expected in ((0.2, 0, 0.9), (0.15, 0, 0.945), (0.1, 0, 0.99))]


def test_weight_decay_is_decoupled_from_the_gradient():
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    optimizer = optimizer_of(network, Adam(lr=0.1, weight_decay=0.5))
    network.weight.grad = torch.zeros(1, 1)
    optimizer.adam.step()
    assert network.weight.item() == pytest.approx(0.95)  # 1 - lr weight_decay


def test_without_weight_decay_it_is_adam():
    weights = []
    for optimize in (
        lambda network: optimizer_of(network).adam,
        lambda network: torch.optim.Adam(network.parameters(), lr=0.002, betas=(0.0, 0.99)),
    ):
        network = nn.Linear(3, 2)
        nn.init.ones_(network.weight)
        adam = optimize(network)
        for step in range(3):
            network.weight.grad = torch.arange(6.0).view(2, 3) - step
            adam.step()
        weights.append(network.weight.detach())
    assert torch.equal(*weights)
