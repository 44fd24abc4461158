"""GAT's whole networks with the weight rules of its importer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.func import functional_call

from assemblies.models.gat import architecture, checkpoint
from blocks.common.position import sine_cosine_grid
from blocks.families import Projector
from blocks.stem.noise_path import noise_levels
from tests.golden.adapters.networks import weights_of
from tests.golden.fixtures import Fixture, Outputs, adapter

Call = Callable[..., Any]
SHIFT = 0.01


@adapter("gat", "generator")
def generator(fixture: Fixture) -> Outputs:
    config = fixture.config
    run, z, c = config["run"], fixture.inputs["z"], fixture.condition(config["num_classes"], "y")
    scale = guidance_scale(fixture, run["guidance_scale"])
    levels, _ = generator_of(config, fixture.tensors, fixture.dtype, run["truncation_psi"], scale)
    images = levels(z, c)
    return {"images": images} if run["multiscale"] else {"image": images[-1]}


@adapter("gat", "discriminator")
def discriminator(fixture: Fixture) -> Outputs:
    call = discriminator_of(fixture.config, fixture.tensors, fixture.dtype)
    c = fixture.condition(fixture.config["num_classes"], "y")
    logits, tokens = call(fixture.inputs["images"], c)
    if tokens is None:
        return {"logits": logits}
    return {"logits": logits, "feat_cls": tokens[:, :1], "feat_spatial": tokens[:, 1:]}


@adapter("gat", "initialisation")
def initialisation(fixture: Fixture) -> Outputs:
    """The bound, deviation or constant of each parameter: its value where each distribution gives its scale."""

    def bound(tensor: Tensor, gain: float = 1.0) -> Tensor:
        fan_out, fan_in = tensor.shape
        return nn.init.constant_(tensor, gain * math.sqrt(6 / (fan_in + fan_out)))

    without_effect = re.compile(r"^G\.blocks\.\d+\.")  # blocks beyond the last readout, which ours does not have
    values = {"G.x_embedder.proj.bias": torch.zeros(())}
    with (
        mock.patch.object(torch, "randn", torch.ones),
        mock.patch.object(nn.init, "xavier_uniform_", bound),
        mock.patch.object(nn.init, "normal_", lambda tensor, mean=0.0, std=1.0: nn.init.constant_(tensor, std)),
    ):
        of_generator, of_discriminator = fixture.config["G"], fixture.config["D"]
        patch = of_generator["patch_size"] ** 2 * of_generator["in_channels"]  # of the unused embedding of the input
        values["G.x_embedder.proj.weight"] = bound(torch.empty(of_generator["hidden_size"], patch))[0, 0]
        for side, network, rules in (
            ("G", architecture.generator_spec(of_generator).build(), checkpoint.generator_rules(of_generator)),
            (
                "D",
                build_discriminator(of_discriminator, torch.float32),
                checkpoint.discriminator_rules(of_discriminator),
            ),
        ):
            parameters = dict(network.named_parameters())
            for target, (source, *_), _ in rules:
                if target in parameters and source != "pos_embed":
                    assert parameters[target].min() == parameters[target].max()
                    values[f"{side}.{source}"] = parameters[target].flatten()[0]
    names = [name if name in values else without_effect.sub("G.blocks.0.", name) for name, _ in fixture.json["rows"]]
    return {"values": torch.stack([values[name] for name in names]).detach()}


def guidance_scale(fixture: Fixture, value: Any) -> Any:
    """A number, or one for each image, which is an input."""
    if isinstance(value, int | float):
        return value
    return next(each for name, each in fixture.inputs.items() if name.startswith("guidance"))


class Levels(nn.Module):
    """A generator whose call returns the images of all levels [n,B,K,H,W]."""

    def __init__(self, network: nn.Module, psi: float, scale: Any) -> None:
        super().__init__()
        self.network, self.psi, self.scale = network, psi, scale

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        network: Any = self.network
        ws = network.mapping(z, c, truncation_psi=self.psi)
        if isinstance(self.scale, Tensor) or self.scale != 1:
            ws = network.mapping.guided(ws, z, self.scale)
        return torch.stack(network.synthesis.levels(ws))


class FromLevels(nn.Module):
    """A discriminator that takes the levels with their noise: its logits, and its projected tokens if it has any."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, levels: Tensor, c: Tensor) -> tuple[Tensor, Tensor | None]:
        first, *blocks, last = self.network.steps  # type: ignore[misc]
        x, tokens = first.tokens(levels), None
        for block in blocks:
            if isinstance(block, Projector):
                tokens = block(x)
            else:
                x = block(x)
        return last(x, c), tokens


def generator_of(
    config: Mapping[str, Any],
    tensors: dict[str, Tensor],
    dtype: torch.dtype,
    psi: float = 0.0,
    scale: Any = 1.0,
    training: bool = False,
) -> tuple[Call, dict[str, Tensor]]:
    """A generator of all levels with the reference's tensors, and these; their mean styles change in training mode."""
    network = architecture.generator_spec(config).build().to(dtype)
    tensors = with_positions(config, tensors, dtype)
    tensors.setdefault("w_avg", torch.zeros(config["num_classes"], config["hidden_size"], dtype=dtype))
    tensors["w_avg"] = tensors["w_avg"].detach().clone()
    weights = weights_of(
        network, checkpoint.generator_rules(config), tensors, checkpoint.ignored_by_generator(config["depth"])
    )
    prefixed = {f"network.{name}": value for name, value in weights.items()}
    run = Levels(network, 1 - psi, scale).train(training)
    return lambda z, c: functional_call(run, prefixed, (z, c), strict=True), prefixed


def build_discriminator(config: Mapping[str, Any], dtype: torch.dtype, min_info: float = 0.125) -> nn.Module:
    network: Any = architecture.discriminator_spec(config).build(**architecture.discriminator_context(config))
    network.steps[0].shares = noise_levels(architecture.NUM_LEVELS, min_info, SHIFT)
    discriminator: nn.Module = network.to(dtype)
    return discriminator


def discriminator_weights(
    network: nn.Module, config: Mapping[str, Any], tensors: dict[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    tensors = with_positions(config, tensors, dtype)
    return weights_of(network, checkpoint.discriminator_rules(config), tensors, checkpoint.ignored_by_discriminator)


def discriminator_of(config: Mapping[str, Any], tensors: dict[str, Tensor], dtype: torch.dtype) -> Call:
    """A discriminator of levels that have their noise already, with the reference's tensors."""
    network = build_discriminator(config, dtype)
    weights = discriminator_weights(network, config, tensors, dtype)
    prefixed = {f"network.{name}": value for name, value in weights.items()}
    return lambda levels, c: functional_call(FromLevels(network), prefixed, (levels, c), strict=True)


def with_positions(config: Mapping[str, Any], tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors with the table of positions, which is computed where the recording has none."""
    if "pos_embed" in tensors:
        return dict(tensors)
    side = config["input_size"] // config["patch_size"]
    table = sine_cosine_grid(config["hidden_size"], (side, side), dtype)
    return tensors | {"pos_embed": table.flatten(0, 1)[None]}
