"""The activation of a generator's image: its values, its gradients, and what it does not fit."""

from __future__ import annotations

import pytest
import torch

from assemblies import check, parse
from registry import IncompatibleError
from tests import tiny

Z = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
STEPS = tiny.GENERATOR["synthesis"][:2]
TWO_LEVELS = {"multi_level": True, "synthesis": [*STEPS, "to-rgb", STEPS[1], "to-rgb"]}


def generator(**options):
    """A generator whose images go far beyond their range."""
    torch.manual_seed(0)
    network = parse(tiny.GENERATOR | options).build()
    with torch.no_grad():
        for name, parameter in network.synthesis.named_parameters():
            if network.synthesis[int(name.split(".")[0])].kind == "to-rgb" and name.endswith("weight"):
                parameter.mul_(1000)
    return network


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"output_activation": "linear"}, lambda image: image),
        ({"output_activation": "tanh"}, torch.tanh),
        ({"output_activation": "hardtanh"}, lambda image: image.clamp(-1, 1)),
        ({"output_activation": "hardtanh", "value_range": "unit"}, lambda image: image.clamp(0, 1)),
    ],
)
def test_images_pass_the_activation(options, expected):
    plain = generator()(Z)
    assert plain.max() > 2
    assert plain.min() < -2
    network = generator(**options)
    torch.testing.assert_close(network(Z), expected(plain))
    network.eval()
    torch.testing.assert_close(network.optimize_for_inference()(Z), network(Z), rtol=0, atol=1e-5)


def test_pixels_beyond_the_range_have_no_gradient():
    network = generator(output_activation="hardtanh")
    ws = network.mapping(Z)
    image = network.synthesis(ws)
    inside = image.abs() < 1
    assert 0 < inside.float().mean() < 1
    (beyond,) = torch.autograd.grad((image * ~inside).sum(), ws, retain_graph=True)
    (within,) = torch.autograd.grad((image * inside).sum(), ws)
    assert beyond.abs().max() == 0
    assert within.abs().max() > 0


def test_all_levels_pass_the_activation():
    levels = generator(output_activation="tanh", **TWO_LEVELS)(Z)
    assert levels.shape == (3, 6, 4, 4)
    torch.testing.assert_close(levels, torch.tanh(generator(**TWO_LEVELS)(Z)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_activation": "tanh", "value_range": "unit"}, "tanh does not give images of the value_range unit"),
        ({"output_activation": "hardtanh", "value_range": "imagenet"}, "the value_range imagenet; choose symmetric"),
        (
            {"output_activation": "tanh", "decoder": {"kind": "conv-autoencoder", "latent_channels": 3}},
            "output_activation .*is tanh, and the latents of a decoder have no range; omit it",
        ),
    ],
)
def test_what_it_does_not_fit_is_named(options, message):
    for attempt in (lambda document: check(document), lambda document: document.build()):
        with pytest.raises(IncompatibleError, match=message):
            attempt(parse(tiny.GENERATOR | options))
