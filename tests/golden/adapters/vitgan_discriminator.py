"""ViTGAN's discriminators: improved spectral norm, patches, DiffAugment, the residual network, losses of a step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from assemblies.conversion.weight_map import translate
from assemblies.models.vitgan import architecture as vitgan
from blocks.augment.diff_augment import DiffAugment
from blocks.common.equalized import EqualLinear
from blocks.families import Batch, Networks
from blocks.loss.hinge import Hinge
from blocks.loss.non_saturating import NonSaturating
from blocks.loss.wasserstein import Wasserstein
from blocks.regularizer.balanced_consistency import BalancedConsistency
from blocks.regularizer.gradient_penalty import GradientPenalty
from blocks.regularizer.r1 import R1
from blocks.stem.overlapping_patches import OverlappingPatches
from blocks.weight_norm.apply import normalize_weights
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm, largest_singular_value
from tests.golden.recipe import Fixture, adapter

Outputs = dict[str, Tensor]
ORIGINAL, NORM = "parametrizations.weight.original", "parametrizations.weight.0."
LOSSES = {"nonsat": NonSaturating, "hinge": Hinge, "wgan": Wasserstein}


def normalised(layer: nn.Module, tensors: dict[str, Tensor], x: Tensor, **options: Any) -> Outputs:
    """What a layer gives under improved spectral norm, and its normalised weight."""
    normalize_weights(layer, ImprovedSpectralNorm.Spec(**options))
    parametrization = layer.get_submodule("parametrizations.weight")
    embed_weights = {name.removeprefix("parametrizations.weight."): value for name, value in tensors.items()}
    weight = functional_call(parametrization, {name: embed_weights[name] for name in parametrization.state_dict()}, ())
    return {"y": functional_call(layer, tensors, x, strict=True), "weight_normalised": weight}


@adapter("vitgan", "off_isn")
def official_isn(fixture: Fixture) -> Outputs:
    config = fixture.config
    tensors = {
        ORIGINAL: fixture.tensors["module.weight_bar"],
        NORM + "u": fixture.tensors["module.weight_u"],
        NORM + "sigma_init": torch.ones((), dtype=fixture.dtype),
    }
    if config["spectral_multiplier"]:
        tensors[NORM + "sigma_init"] = fixture.attributes["multiplier"]
    if "module.bias" in fixture.tensors:  # without use_bias it is added too
        tensors["bias"] = fixture.tensors["module.bias"]
    layer = EqualLinear(config["in_dim"], config["out_dim"], bias_init=0.0 if "bias" in tensors else None)
    how = {"sigma": "power-iteration", "power_iterations": config["power_iterations"]}
    return normalised(layer, tensors, fixture.inputs["x"], **how)


@adapter("vitgan", "re_isn")
def re_implemented_isn(fixture: Fixture) -> Outputs:
    config = fixture.config
    assert config["layer"] == "linear"
    how = {"sigma": "power-iteration", "power_iterations": config["power_iterations"]}
    weight, u = fixture.tensors["module.weight_bar"], fixture.tensors["module.weight_u"]
    if config.get("first_call"):  # takes its own sigma for the initial one, as a constant
        norm = ImprovedSpectralNorm(weight.detach(), **how)
        norm.u.copy_(u.detach())
        norm.sigma_init.fill_(1.0)
        sigma_init = (weight / norm(weight)).detach().flatten()[0]
    else:
        sigma_init = fixture.attributes["w_init_sigma"]
    tensors = {ORIGINAL: weight, NORM + "u": u, NORM + "sigma_init": sigma_init, "bias": fixture.tensors["module.bias"]}
    layer = nn.Linear(config["in_features"], config["out_features"])
    return normalised(layer, tensors, fixture.inputs["x"], **how)


@adapter("vitgan", "paper_isn")
def paper_isn(fixture: Fixture) -> Outputs:
    tensors = {"bias": fixture.tensors["bias"], ORIGINAL: fixture.tensors["weight"]}
    tensors[NORM + "sigma_init"] = fixture.attributes["sigma_init"]
    layer = nn.Linear(fixture.config["in_dim"], fixture.config["out_dim"])
    sigma = largest_singular_value(tensors[ORIGINAL])
    return normalised(layer, tensors, fixture.inputs["x"]) | {"sigma": sigma}


@adapter("vitgan", "paper_patch")
def paper_patches(fixture: Fixture) -> Outputs:
    config, tensors = fixture.config, fixture.tensors
    side = config["patch_size"] + 2 * config["overlap"]
    patches = OverlappingPatches(
        config["in_channels"],
        (config["height"], config["width"]),
        dim=config["dim"],
        patch_size=config["patch_size"],
        overlap=config["overlap"],
        class_token="cls" in tensors,
    )
    ours = {
        "pos_embed": tensors["pos"][0],
        "proj.weight": tensors["proj.weight"].view(-1, config["in_channels"], side, side),
        "proj.bias": tensors["proj.bias"],
    }
    if "cls" in tensors:
        ours["class_token"] = tensors["cls"].flatten()
    features, _ = functional_call(patches, ours, (None, fixture.inputs["image"]), strict=True)
    return {"tokens": features.flatten(2).mT}


@adapter("vitgan", "off_diffaug")
def official_diffaug(fixture: Fixture) -> Outputs:
    return {
        policy: official_augmentation(policy, fixture.inputs["image"], fixture.inputs)
        for policy in fixture.config["policies"]
    }


@adapter("vitgan", "re_diffaug")
def re_implemented_diffaug(fixture: Fixture) -> Outputs:
    return {
        policy: DiffAugment(policy=tuple(policy.split(",")), translation_ratio=0.1, cutout_ratio=0.3)(
            fixture.inputs["image"], fixture.inputs
        )
        for policy in fixture.config["policies"]
    }


def official_diff_augment(policy: str) -> DiffAugment:
    """The authors' DiffAugment, in which a flip belongs to the translation."""
    functions: Any = tuple(name for name in policy.replace("translation", "translation,flip").split(",") if name)
    return DiffAugment(
        policy=functions,
        color_probability=0.8,
        translation_probability=0.8,
        flip_probability=0.45,
        cutout_probability=0.3,
        cutout_ratio=0.5,
    )


def official_augmentation(policy: str, image: Tensor, draws: dict[str, Tensor]) -> Tensor:
    return official_diff_augment(policy)(2 * image - 1, draws) / 2 + 0.5


class OfficialDiscriminator:
    """The authors' residual discriminator, with the weights of a fixture."""

    def __init__(self, arch: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        dtype = next(iter(tensors.values())).dtype
        self.network = vitgan.discriminator_spec(arch).build(resolution=arch["size"]).to(dtype)
        rules = vitgan.discriminator_rules(arch)
        found = translate(rules, tensors, self.network, ignored=vitgan.discriminator_ignored)
        self.weights = dict(self.network.named_buffers()) | found

    def __call__(self, image: Tensor, c: Tensor | None = None) -> Tensor:
        return functional_call(self.network, self.weights, (image, c), strict=True)


@adapter("vitgan", "off_discriminator")
def official_discriminator(fixture: Fixture) -> Outputs:
    discriminator, image = OfficialDiscriminator(fixture.config["arch"], fixture.tensors), fixture.inputs["image"]
    last = str(len(discriminator.network.steps) - 1)
    head, seen = discriminator.network.steps[-1], []
    hook = head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    outputs = {"logit": discriminator(image), "penultimate": seen[0].flatten(1)}
    hook.remove()
    embed_weights = {
        name.removeprefix(f"steps.{last}."): value for name, value in discriminator.weights.items() if last in name
    }
    for name in ("project1", "project2"):
        weights = {key.removeprefix(f"{name}."): value for key, value in embed_weights.items() if key.startswith(name)}
        projected = functional_call(head.get_submodule(name), weights, seen[0].flatten(1), strict=True)
        outputs[{"project1": "projection", "project2": "projection2"}[name]] = projected
    return outputs


@adapter("vitgan", "off_dloss")
def official_losses(fixture: Fixture) -> Outputs:
    """The discriminator always judges [real; fake] together there, so that its stddev groups mix both."""
    config = fixture.config
    real, fake = fixture.inputs["real"], fixture.inputs["fake"]
    discriminator = OfficialDiscriminator(config["arch"], fixture.tensors)
    batch, loss = len(real), LOSSES[config["loss"]]()

    def augment(which: int, image: Tensor) -> Tensor:
        draws = {name.removeprefix(f"aug{which}."): draw for name, draw in fixture.inputs.items()}
        return official_augmentation(config["policy"], image, draws)

    def joint(which: int, real: Tensor) -> Tensor:
        return augment(which, torch.cat([real, fake]))

    logits = discriminator(joint(0, real))
    of_real, of_fake = torch.split(logits, [batch, len(fake)])
    losses = {"d_loss": loss.discriminator(of_real, of_fake), "g_loss": loss.generator(discriminator(augment(2, fake)))}

    r1 = R1(gamma=config["lbd_r1"])(
        Networks(nn.Identity(), lambda image, c: discriminator(image)[:batch], lambda image: joint(0, image)),
        Batch(real=real),
    )
    penalties, consistency = r1, {}
    if config["penalty"] in ("bcr", "cr"):
        if config["penalty"] == "bcr":
            both = torch.split(discriminator(joint(1, real)), [batch, len(fake)])
            others = dict(zip(("real", "gen"), both, strict=True))
        else:
            others = {"real": discriminator(augment(1, real))}
        for name, other in others.items():
            side, first = (real, of_real) if name == "real" else (fake, of_fake)
            bcr = BalancedConsistency(
                lambda_real=1.0, lambda_fake=0.0, view="two-views", augment=official_diff_augment(config["policy"]).spec
            )
            judge = Networks(nn.Identity(), lambda image, c, other=other: other, bcr.augment)
            consistency[f"bcr_{name}"] = bcr(judge, Batch(real=side, real_logits=first))
            penalties = penalties + config["lbd" if name == "real" else "lbd2"] * consistency[f"bcr_{name}"]
    elif config["penalty"] == "gp":
        (share,) = (draw for name, draw in fixture.inputs.items() if name not in ("real", "fake") and "aug" not in name)
        networks = Networks(nn.Identity(), discriminator, nn.Identity())
        between = share.view(-1, 1, 1, 1) * real + (1 - share.view(-1, 1, 1, 1)) * fake
        penalties = penalties + GradientPenalty(weight=config["lbd"]).penalty(networks, between, None)
    means = {"d_real_mean": of_real.mean(), "d_gen_mean": of_fake.mean(), "logits": logits}
    unweighted = {"r1": r1 / (config["lbd_r1"] / 2)} if config["lbd_r1"] else {}
    sums = {"penalty": penalties, "total": losses["d_loss"] + penalties}
    return losses | means | unweighted | consistency | sums
