"""GAT's training: augmentation, penalties, the losses of both steps, and the optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.func import functional_call

from assemblies import Adam
from blocks.augment.diff_augment import DiffAugment
from blocks.families import Networks
from blocks.loss.relativistic import Relativistic
from blocks.regularizer.finite_differences import squared_slopes
from blocks.regularizer.squared_gradients import squared_gradients
from blocks.stem.noise_path import add_noise, noise_path
from ganblocks.training import ema
from ganblocks.training.optimizer import NetworkOptimizer
from registry import second_order
from tests.golden.adapters.gat.networks import build_discriminator, discriminator_weights, generator_of
from tests.golden.fixtures import Fixture, Outputs, adapter, without_prefix

VALUES = {name: f"{name}.value" for name in ("brightness", "saturation", "contrast")}
SHIFTS = {
    "dy": "translation.dy",
    "dx": "translation.dx",
    "cy": "cutout.cy",
    "cx": "cutout.cx",
    "flip_gate": "flip.gate",
}


@adapter("gat", "diffaug")
def diffaug(fixture: Fixture) -> Outputs:
    x, replayed = fixture.inputs["x"], fixture.inputs["x2"]
    augment = Recorded(fixture.config, fixture.inputs, x.shape[1])
    draws = augment.draw(x)
    return {"y": augment(x, draws), "y_replay": augment(replayed, draws)}


@adapter("gat", "approximate_penalty")
def approximate_penalty(fixture: Fixture) -> Outputs:
    config, images = fixture.config, fixture.inputs["images"]
    discriminate = Discriminate(fixture, fixture.inputs["noise"])
    image = side_by_side(images) if config["generated"] else images
    networks = Networks(nn.Identity(), discriminate, lambda x: x)
    c = fixture.condition(config["D"]["num_classes"], "y")
    with recorded_noise(fixture.inputs["noise"], fixture.inputs["gp_noise"]):
        penalty, logits = squared_slopes(networks, image, c, config["noise_std"]), discriminate(image, c)
    return {"logits": logits, "penalty": penalty} | gradients(fixture, penalty.mean())


@adapter("gat", "discriminator_step")
def discriminator_step(fixture: Fixture) -> Outputs:
    outputs = adversarial_step(fixture)
    return outputs | gradients(fixture, outputs["loss"].mean())


def adversarial_step(fixture: Fixture) -> Outputs:
    """The discriminator's loss of each pair of images, and its parts."""
    config, real = fixture.config, fixture.inputs["images"].detach()
    c = fixture.condition(config["D"]["num_classes"], "y")
    generator, _ = generator_of(config["G"], fixture.under("G."), fixture.dtype)
    with torch.no_grad():
        fake = side_by_side(generator(fixture.inputs["z"], c))
    outputs: Outputs = {}
    for side, image in (("real", real), ("gen", fake)):
        noise, networks = fixture.inputs[f"noise_{side}"], networks_of(fixture, side)
        with recorded_noise(noise, fixture.inputs.get(f"gp_noise_{side}")), second_order():
            augmented = networks.augment(image)
            outputs[f"{side}_logits"] = networks.discriminator(augmented, c)
            penalty = {"real": "r1", "gen": "r2"}[side]
            if config["approximate"]:
                outputs[penalty] = squared_slopes(networks, image, c, config["noise_std"])
                outputs[f"{side}_logits_moved"] = moved_logits(fixture, networks, side, image, c)
            else:
                outputs[penalty] = squared_gradients(networks, image, c)
        outputs[f"d_input_{side}"] = noisy_levels(networks.discriminator, augmented, noise)
    adversarial = each_pair(Relativistic().discriminator, outputs["real_logits"], outputs["gen_logits"])
    loss = adversarial + config["r1_gamma"] / 2 * outputs["r1"] + config["r2_gamma"] / 2 * outputs["r2"]
    return outputs | {"adversarial": adversarial, "loss": loss}


def moved_logits(fixture: Fixture, networks: Networks, side: str, image: Tensor, c: Tensor | None) -> Tensor:
    """The logits of the perturbed images with the augmentation of the unperturbed ones."""
    augment: Any = networks.augment
    direction = fixture.inputs[f"gp_noise_{side}"]
    direction = side_by_side(direction) if side == "gen" else direction
    return networks.discriminator(augment(image + fixture.config["noise_std"] * direction, augment.draw(image)), c)


@adapter("gat", "generator_step")
def generator_step(fixture: Fixture) -> Outputs:
    config, real = fixture.config, fixture.inputs["images"].detach()
    c = fixture.condition(config["D"]["num_classes"], "y")
    generator, weights = generator_of(config["G"], fixture.under("G."), fixture.dtype, training=True)
    fake = side_by_side(generator(fixture.inputs["z"], c))
    outputs: Outputs = {"w_avg_after": weights["network.mapping.w_avg"]}
    for side, image in (("real", real), ("gen", fake)):
        noise, networks = fixture.inputs[f"noise_{side}"], networks_of(fixture, side)
        with recorded_noise(noise, None), torch.set_grad_enabled(side == "gen"):
            augmented = networks.augment(image)
            outputs[f"{side}_logits"] = networks.discriminator(augmented, c)
        outputs[f"d_input_{side}"] = noisy_levels(networks.discriminator, augmented, noise)
    loss = each_pair(Relativistic().generator, outputs["gen_logits"], outputs["real_logits"])
    return outputs | {"loss": loss} | gradients(fixture, loss.mean())


@adapter("gat", "optimiser")
def optimiser(fixture: Fixture) -> Outputs:
    config, names = fixture.config, ("a", "b")
    lr = config["base_lr"] * config["base_width"] / config["width"]
    assert not config["weight_decay"], "Adam without weight decay is AdamW"
    network = nn.ParameterDict({name: fixture.inputs[name].detach().clone() for name in names})
    average = ema.ema_copy(network)
    optimizer = NetworkOptimizer("generator", network, Adam(lr=lr, betas=config["betas"], eps=config["eps"]), [])
    outputs: dict[str, list[Tensor]] = {"a_after": [], "b_after": [], "ema_a": [], "grad_norm": []}
    for step, factor in zip(range(config["steps"]), config["gradient_factor"], strict=True):
        for name in names:
            network[name].grad = fixture.inputs[f"grad_{name}"][step].detach() * factor
        norm = nn.utils.get_total_norm([network[name].grad for name in names])
        nn.utils.clip_grads_with_norm_(network.values(), config["max_grad_norm"], norm)
        optimizer.adam.step()
        ema.update(average, network, config["ema_decay"])
        values = (network["a"].detach().clone(), network["b"].detach().clone(), average["a"].clone(), norm)
        for each, value in zip(outputs.values(), values, strict=True):
            each.append(value)
    stacked = {name: torch.stack(values) for name, values in outputs.items()}
    return stacked | {"lr": torch.tensor(lr, dtype=fixture.dtype)}


class Recorded:
    """DiffAugment with recorded random numbers.

    Args:
        options: Policy, ratios and probabilities, where they are not the reference's.
        inputs: The random numbers.
        channels: Channels of one level.
    """

    def __init__(self, options: dict[str, Any], inputs: dict[str, Tensor], channels: int) -> None:
        self.block = DiffAugment(
            policy=tuple(name for name in options["policy"].split(",") if name),
            translation_ratio=options.get("translation_ratio", 0.125),
            cutout_ratio=options.get("cutout_ratio", 0.5),
            color_probability=options.get("color_probability", 0.5),
            flip_probability=options.get("flip_probability", 0.4),
            color_gate="all",
            color_reference=channels,
        )
        self.policy, self.translation, self.flip = self.block.policy, self.block.translation, self.block.flip
        self.draws = {new: inputs[old] for old, new in (VALUES | SHIFTS).items() if old in inputs}
        if "color_gate" in inputs:
            self.draws |= {f"{name}.gate": inputs["color_gate"] for name in VALUES}

    def draw(self, image: Tensor) -> dict[str, Tensor]:
        return self.block.draw(image) | self.draws

    def __call__(self, image: Tensor, draws: dict[str, Tensor] | None = None) -> Tensor:
        augmented: Tensor = self.block(image, self.draw(image) if draws is None else draws)
        return augmented


class Discriminate:
    """The recording's discriminator as a function of images and conditions; it draws its noise by torch.randn_like."""

    def __init__(self, fixture: Fixture, noise: Tensor) -> None:
        config = fixture.config["D"]
        self.network: Any = build_discriminator(config, fixture.dtype, fixture.config["min_info"])
        self.weights = discriminator_weights(self.network, config, fixture.under("D."), fixture.dtype)

    def __call__(self, image: Tensor, c: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.network, self.weights, (image, c), strict=True)
        return logits

    def projected_tokens(self, image: Tensor, c: Tensor | None) -> Tensor:
        run = {f"network.{name}": value for name, value in self.weights.items()}
        tokens: Tensor = functional_call(Projected(self.network), run, (image, c), strict=True)
        return tokens


class Projected(nn.Module):
    """A discriminator's projected tokens."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, c: Tensor | None) -> Tensor:
        network: Any = self.network
        tokens: Tensor = network.projected_tokens(image, c)
        return tokens


def networks_of(fixture: Fixture, side: str) -> Networks:
    """The discriminator with the augmentation of real or of generated images."""
    inputs = without_prefix(fixture.inputs, f"aug_{side}.")
    augment: Any = Recorded(fixture.config, inputs, fixture.config["D"]["in_channels"])
    return Networks(nn.Identity(), Discriminate(fixture, fixture.inputs[f"noise_{side}"]), augment)


@contextmanager
def recorded_noise(noise: Tensor, direction: Tensor | None) -> Iterator[None]:
    """torch.randn_like returns the noise of the levels [4,B,C,H,W], or for images the direction of the penalty."""

    def randn_like(x: Tensor) -> Tensor:
        if x.ndim == noise.ndim:
            return noise.detach()
        assert direction is not None
        return (side_by_side(direction) if direction.ndim == noise.ndim else direction).detach()

    with mock.patch.object(torch, "randn_like", randn_like):
        yield


def noisy_levels(discriminate: Any, image: Tensor, noise: Tensor) -> Tensor:
    """What the discriminator makes patches of."""
    stem = discriminate.network.steps[0]
    return add_noise(stem.levels_of(image), noise_path(noise, stem.shares), stem.shares)


def side_by_side(levels: Tensor) -> Tensor:
    """Levels [n,B,C,H,W] as one image [B,nC,H,W]."""
    return levels.movedim(0, 1).flatten(1, 2)


def each_pair(loss: Any, first: Tensor, second: Tensor) -> Tensor:
    """The loss of each pair of logits by itself."""
    return torch.stack([loss(*pair) for pair in zip(first[:, None, 0], second[:, None, 0], strict=True)])


def gradients(fixture: Fixture, loss: Tensor) -> Outputs:
    """The gradients of the loss by the recorded tensors."""
    leaves = fixture.tensors | fixture.inputs
    names = [name.partition("[")[0] for name in fixture.json["gradients"]["wrt"]]
    values = torch.autograd.grad(loss, [leaves[name] for name in names])
    return {f"grad:{name}": value for name, value in zip(names, values, strict=True)}
