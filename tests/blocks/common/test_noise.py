"""Noise of layers: where it comes from, and how a generator's argument reaches it."""

from __future__ import annotations

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


def test_random_noise_differs_between_calls_and_between_images():
    network = noisy().eval()
    same = Z[:1].expand(2, -1)
    first, second = network(same, noise_mode="random")
    assert not torch.allclose(first, second)
    assert not torch.allclose(network(Z, noise_mode="random"), network(Z, noise_mode="random"))


def test_constant_noise_is_a_part_of_the_model():
    network, other = noisy().eval(), noisy().eval()
    image = network(Z, noise_mode="const")
    assert torch.equal(image, network(Z, noise_mode="const"))
    other.synthesis[1].noise.const.zero_()
    assert not torch.allclose(image, other(Z, noise_mode="const"))
    other.load_state_dict(network.state_dict())
    assert torch.equal(image, other(Z, noise_mode="const"))


def test_without_noise_its_strength_has_no_say():
    network = noisy()
    image = network(Z, noise_mode="none")
    for index in (1, 2):
        torch.nn.init.zeros_(network.synthesis[index].noise.strength)
    torch.testing.assert_close(network(Z), image)


def test_noise_is_random_while_training_and_constant_in_eval_mode():
    network = noisy()
    assert not torch.allclose(network(Z), network(Z))
    assert torch.equal(network.eval()(Z), network(Z, noise_mode="const"))


def test_the_mode_reaches_synthesis_alone_and_everything_below_a_with_statement():
    network = noisy()
    ws = network.mapping(Z)
    expected = network.synthesis(ws, noise_mode="const")
    with noise_mode("const"):
        assert torch.equal(network.synthesis(ws), expected)
        assert not torch.allclose(network.synthesis(ws, noise_mode="none"), expected)
        assert torch.equal(network.synthesis(ws), expected)
    assert not torch.allclose(network.synthesis(ws), expected)


def test_an_unknown_mode_is_told_the_known_ones():
    with pytest.raises(ValueError, match="noise_mode is one of random, const, none, not 'fixed'"):
        noisy()(Z, noise_mode="fixed")
    assert not torch.equal(noisy()(Z), noisy()(Z, noise_mode="none"))  # and nothing is left behind


@pytest.mark.parametrize("mode", [None, "const", "none"])
def test_the_mode_is_traced_into_one_graph(mode: Any):
    network = noisy().eval()
    traced = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(traced(Z, noise_mode=mode), network(Z, noise_mode=mode))
    torch.testing.assert_close(traced(Z, noise_mode="none"), network(Z, noise_mode="none"))
