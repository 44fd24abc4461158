"""R3GAN's losses and penalties, schedules, optimizer and augmentation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from assemblies import EMA, Adam
from blocks.families import Networks
from blocks.loss.relativistic import Relativistic
from blocks.regularizer.squared_gradients import squared_gradients
from blocks.schedule.cosine import CosineSchedule
from ganblocks.training import ema
from ganblocks.training.optimizer import NetworkOptimizer
from registry import second_order
from tests.golden.adapters.r3gan.networks import condition, discriminator_of, generator_of
from tests.golden.adapters.styleformer.augment import augmentation
from tests.golden.fixtures import Fixture, Outputs, adapter


@adapter("r3gan", "discriminator_loss")
def discriminator_loss(fixture: Fixture) -> Outputs:
    networks, real, c = networks_of(fixture)
    with torch.no_grad():
        fake = networks.generator(fixture.inputs["z"], c)
    with second_order():
        of_real, of_fake = (networks.discriminator(networks.augment(each), c)[:, 0] for each in (real, fake))
        r1, r2 = (squared_gradients(networks, each, c) for each in (real, fake))
    adversarial = each_pair(Relativistic().discriminator, of_real, of_fake)
    loss = fixture.config["scale"] * (adversarial + fixture.config["gamma"] / 2 * (r1 + r2)).mean()
    outputs = {"adversarial": adversarial, "relativistic_logits": of_real - of_fake, "r1": r1, "r2": r2}
    return outputs | gradients(fixture, loss)


@adapter("r3gan", "generator_loss")
def generator_loss(fixture: Fixture) -> Outputs:
    networks, real, c = networks_of(fixture)
    fake = networks.generator(fixture.inputs["z"], c)
    with torch.no_grad():
        of_real = networks.discriminator(networks.augment(real), c)[:, 0]
    of_fake = networks.discriminator(networks.augment(fake), c)[:, 0]
    adversarial = each_pair(Relativistic().generator, of_fake, of_real)
    outputs = {"adversarial": adversarial, "relativistic_logits": of_fake - of_real}
    return outputs | gradients(fixture, fixture.config["scale"] * adversarial.mean())


@adapter("r3gan", "AugmentPipe")
def augment(fixture: Fixture) -> Outputs:
    block, image = augmentation(fixture.config["kwargs"]), fixture.inputs["img"]
    percentiles = fixture.config["run"]["percentiles"]
    return {f"aug{number}": block(image, block.quantile(image, q)) for number, q in enumerate(percentiles)}


@adapter("r3gan", "schedules")
def schedules(fixture: Fixture) -> Outputs:
    outputs = {}
    for name, preset in fixture.config["presets"].items():
        kimg, images = preset["burn_in_nimg"] / 1000, fixture.config["nimg"]
        for quantity in ("lr", "beta2", "gamma", "aug_p", "ema_nimg"):
            init, final = preset[quantity]
            schedule = CosineSchedule(init=init, final=final, kimg=kimg)
            outputs[f"{name}.{quantity}"] = [schedule.at(each) for each in images]
        init, final = (value / 1000 for value in preset["ema_nimg"])
        average = EMA(half_life_kimg=CosineSchedule.Spec(init=init, final=final, kimg=kimg), ramp_up=None)
        outputs[f"{name}.ema_beta"] = [ema.decay(average, preset["batch"], each) for each in images]
    outputs["general"] = [general(case) for case in fixture.config["cases"]]
    return {name: torch.tensor(values, dtype=fixture.dtype) for name, values in outputs.items()}


def general(case: dict[str, Any]) -> float:
    """The reference's function of the schedule with all its arguments; those in images become thousands."""
    options = {"init": case["base_value"], "final": case.get("final_value", 0.0), "kimg": case["total_nimg"] / 1000}
    for name, value in case.items():
        if "warmup" in name:
            options |= {"warmup_init": value} if "value" in name else {"warmup_kimg": value / 1000}
        elif "hold" in name:
            options["hold_kimg"] = value / 1000
    return CosineSchedule(**options).at(case["cur_nimg"])


@adapter("r3gan", "optimiser")
def optimiser(fixture: Fixture) -> Outputs:
    config, steps = fixture.config, fixture.config["steps"]
    network = nn.ParameterList([fixture.inputs["weight"].detach().clone()])
    average = ema.ema_copy(network)
    changes = list(range(1, steps))  # one thousand images a step
    lr, beta2 = ({"kind": "step", "values": config[name][:steps], "kimg": changes} for name in ("lr", "beta2"))
    optimizer = NetworkOptimizer("generator", network, Adam(lr=lr, betas=(0, beta2), eps=config["eps"]), [])
    weights, averages = [], []
    for step in range(steps):
        optimizer.set_rates(step + 1, 1000, 1000 * step)
        network[0].grad = fixture.inputs["grad"][step].detach().clone()
        optimizer.adam.step()
        ema.update(average, network, config["ema_beta"][step])
        weights.append(network[0].detach().clone())
        averages.append(average[0].clone())
    return {"weights": torch.stack(weights), "ema": torch.stack(averages)}


def networks_of(fixture: Fixture) -> tuple[Networks, Tensor, Tensor | None]:
    """The networks with the stand-in for the augmentation, the real images and their condition."""
    config, dtype = fixture.config, fixture.dtype
    preprocess = config["preprocess"]

    def augment(image: Tensor) -> Tensor:
        image = image.flip(3) if preprocess["flip"] else image
        return preprocess["gain"] * image + preprocess["offset"]

    generator: Any = generator_of(config["G"], fixture.under("G."), dtype)
    discriminator = discriminator_of(config["D"], fixture.under("D."), dtype)
    networks = Networks(generator, discriminator, augment)
    return networks, fixture.inputs["images"].detach(), condition(fixture, config["D"])


def each_pair(loss: Any, first: Tensor, second: Tensor) -> Tensor:
    """The loss of each pair of logits by itself."""
    pairs = zip(first[:, None], second[:, None], strict=True)
    return torch.stack([loss(*pair) for pair in pairs])


def gradients(fixture: Fixture, loss: Tensor) -> Outputs:
    """The gradients of the loss by the recorded tensors."""
    names = [name.partition("[")[0] for name in fixture.json["gradients"]["wrt"]]
    values = torch.autograd.grad(loss, [(fixture.tensors | fixture.inputs)[name] for name in names])
    return {f"grad:{name}": value for name, value in zip(names, values, strict=True)}
