"""R3GAN's whole networks with the weight rules of its importer, and what they are at initialisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.func import functional_call

from assemblies.models.r3gan import architecture, checkpoint
from tests.golden.adapters.networks import weights_of
from tests.golden.fixtures import Fixture, Outputs, adapter

Call = Callable[..., Tensor]


@adapter("r3gan", "generator")
def generator(fixture: Fixture) -> Outputs:
    call = generator_of(fixture.config, fixture.tensors, fixture.dtype)
    return {"image": call(fixture.inputs["z"], condition(fixture, fixture.config))}


@adapter("r3gan", "discriminator")
def discriminator(fixture: Fixture) -> Outputs:
    call = discriminator_of(fixture.config, fixture.tensors, fixture.dtype)
    return {"logits": call(fixture.inputs["image"], condition(fixture, fixture.config))[:, 0]}


@adapter("r3gan", "initialisation")
def initialisation(fixture: Fixture) -> Outputs:
    """The standard deviation of each parameter: its value where the standard normal distribution gives 1."""
    values = {}
    with (
        mock.patch.object(torch, "randn", torch.ones),
        mock.patch.object(nn.init, "normal_", lambda tensor, mean=0.0, std=1.0: nn.init.constant_(tensor, std)),
    ):
        for side, network, rules in (
            ("G", build_generator(fixture.config["G"]), checkpoint.generator_rules(fixture.config["G"])),
            ("D", build_discriminator(fixture.config["D"]), checkpoint.discriminator_rules(fixture.config["D"])),
        ):
            parameters = dict(network.named_parameters())
            for target, (source, *_), _ in rules:
                assert parameters[target].min() == parameters[target].max()
                values[f"{side}.{source}"] = parameters[target].flatten()[0]
    return {"values": torch.stack([values[name] for name in fixture.json["rows"]]).detach()}


def build_generator(config: Mapping[str, Any]) -> nn.Module:
    network: nn.Module = architecture.generator_spec(config).build()
    return network


def build_discriminator(config: Mapping[str, Any]) -> nn.Module:
    network: nn.Module = architecture.discriminator_spec(config).build(**architecture.discriminator_context(config))
    return network


def generator_of(config: Mapping[str, Any], tensors: dict[str, Tensor], dtype: torch.dtype) -> Call:
    """A generator with the reference's tensors as a function of latents and conditions."""
    network = build_generator(config).to(dtype)
    weights = weights_of(network, checkpoint.generator_rules(config), tensors, checkpoint.is_kernel)
    return lambda z, c=None: functional_call(network, weights, (z, c), strict=True)


def discriminator_of(config: Mapping[str, Any], tensors: dict[str, Tensor], dtype: torch.dtype) -> Call:
    """A discriminator with the reference's tensors as a function of images and conditions."""
    network = build_discriminator(config).to(dtype)
    weights = weights_of(network, checkpoint.discriminator_rules(config), tensors, checkpoint.is_kernel)
    return lambda image, c=None: functional_call(network, weights, (image, c), strict=True)


def condition(fixture: Fixture, config: Mapping[str, Any]) -> Tensor | None:
    """The labels of a conditional network, one-hot."""
    return fixture.condition(config["ConditionDimension"], "y") if config["ConditionDimension"] else None
