"""Noise layers and `noise_mode`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from assemblies.generator import LayeredGenerator
from blocks.common.noise import Noise, noise_mode

STEPS: list[dict[str, Any]] = [
    {"kind": "constant", "resolution": [4, 3], "dim": 8},
    {"kind": "styled-attention", "num_heads": 2},
    {"kind": "modulated-conv", "up": 2},
    {"kind": "to-rgb", "modulation": "demodulate"},
]


def noisy() -> LayeredGenerator:
    torch.manual_seed(0)
    network = LayeredGenerator(z_dim=8, mapping={"kind": "mapping", "num_layers": 2}, synthesis=STEPS)
    for block in network.modules():
        if isinstance(block, Noise):
            torch.nn.init.ones_(block.strength)
    return network


Z = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))


def test_random_noise_differs_between_calls_and_images():
    network = noisy().eval()
    same = Z[:1].expand(2, -1)
    first, second = network(same, noise_mode="random")
    assert not torch.allclose(first, second)
    assert not torch.allclose(network(Z, noise_mode="random"), network(Z, noise_mode="random"))


def test_constant_noise_is_in_the_state_dict():
    network, other = noisy().eval(), noisy().eval()
    image = network(Z, noise_mode="const")
    assert torch.equal(image, network(Z, noise_mode="const"))
    other.synthesis[1].noise.const.zero_()
    assert not torch.allclose(image, other(Z, noise_mode="const"))
    other.load_state_dict(network.state_dict())
    assert torch.equal(image, other(Z, noise_mode="const"))


def test_mode_none_is_strength_0():
    network = noisy()
    image = network(Z, noise_mode="none")
    for index in (1, 2):
        torch.nn.init.zeros_(network.synthesis[index].noise.strength)
    torch.testing.assert_close(network(Z), image)


def test_noise_is_random_while_training_and_constant_in_eval_mode():
    network = noisy()
    assert not torch.allclose(network(Z), network(Z))
    assert torch.equal(network.eval()(Z), network(Z, noise_mode="const"))


def test_the_mode_can_be_an_argument_or_a_context():
    network = noisy()
    ws = network.mapping(Z)
    expected = network.synthesis(ws, noise_mode="const")
    with noise_mode("const"):
        assert torch.equal(network.synthesis(ws), expected)
        assert not torch.allclose(network.synthesis(ws, noise_mode="none"), expected)
        assert torch.equal(network.synthesis(ws), expected)
    assert not torch.allclose(network.synthesis(ws), expected)


def test_the_mode_holds_where_a_backward_pass_recomputes_activations():
    gradients = []
    for checkpoint in (False, True):
        network = noisy()
        network.synthesis.checkpoint = checkpoint
        network(Z, noise_mode="const").square().sum().backward()
        gradients.append(network.synthesis[2].weight.grad)
    assert torch.equal(*gradients)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="unknown noise_mode 'fixed'; valid: random, const, none"):
        noisy()(Z, noise_mode="fixed")
    assert not torch.equal(noisy()(Z), noisy()(Z, noise_mode="none"))


@pytest.mark.parametrize("mode", [None, "const", "none"])
def test_each_mode_compiles_to_one_graph(mode: Any):
    network = noisy().eval()
    traced = torch.compile(network, fullgraph=True, backend="eager")
    expected = network(Z, noise_mode=mode)
    torch.testing.assert_close(traced(Z, noise_mode=mode), expected)
    with ThreadPoolExecutor(1) as other, noise_mode("random"):  # holds for this thread alone
        for run in (traced, network):
            torch.testing.assert_close(other.submit(run, Z, noise_mode=mode).result(), expected)
    torch.testing.assert_close(traced(Z, noise_mode="none"), network(Z, noise_mode="none"))
