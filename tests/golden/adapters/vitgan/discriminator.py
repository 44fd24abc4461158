"""ViTGAN's discriminators: patches, the authors' residual network, the re-implementation's transformer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from assemblies.models.vitgan.official import architecture as official
from assemblies.models.vitgan.official import checkpoint as official_checkpoint
from assemblies.models.vitgan.reimplementation import architecture as reimplementation
from assemblies.models.vitgan.reimplementation import checkpoint as reimplementation_checkpoint
from blocks.families import Batch, Networks
from blocks.regularizer.balanced_consistency import BalancedConsistency
from blocks.regularizer.r1 import R1
from blocks.stem.overlapping_patches import OverlappingPatches
from blocks.weight_norm.apply import normalize_weights
from blocks.weight_norm.improved_spectral import ImprovedSpectralNorm
from tests.golden.adapters.networks import apply_rules, build, outputs_of, weights_of, with_prefix
from tests.golden.adapters.vitgan.augment import reimplemented_augment
from tests.golden.fixtures import Fixture, Outputs, adapter, without_prefix


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
    weights = {
        "pos_embed": tensors["pos"][0],
        "proj.weight": tensors["proj.weight"].view(-1, config["in_channels"], side, side),
        "proj.bias": tensors["proj.bias"],
    }
    if "cls" in tensors:
        weights["class_token"] = tensors["cls"].flatten()
    features, _ = functional_call(patches, weights, (None, fixture.inputs["image"]), strict=True)
    return {"tokens": features.flatten(2).mT}


@adapter("vitgan", "re_patch_embed")
def reimplemented_patches(fixture: Fixture) -> Outputs:
    config = fixture.config
    patches = OverlappingPatches(
        config["in_channels"],
        config["image_size"],
        dim=config["emb_size"],
        patch_size=config["stride_size"],
        window_size=config["patch_size"],
        padding="none",
        position="sine",
        class_token=True,
    ).to(fixture.dtype)
    normalize_weights(patches, ImprovedSpectralNorm.Spec(sigma="power-iteration"))
    rules = reimplementation_checkpoint.patch_rules("patches", "layer", {})
    weights = apply_rules(rules, with_prefix(fixture.tensors | fixture.attributes, "layer."))
    inputs = (None, fixture.inputs["image"])
    features, _ = functional_call(patches, without_prefix(weights, "patches."), inputs, strict=True)
    return {"tokens": features[:, :, 0].mT}


class OfficialDiscriminator:
    """The authors' residual discriminator, with the weights of a fixture."""

    def __init__(self, arch: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        dtype = next(iter(tensors.values())).dtype
        self.network = official.discriminator_spec(arch).build(resolution=arch["size"]).to(dtype)
        rules = official_checkpoint.discriminator_rules(arch)
        self.weights = weights_of(self.network, rules, tensors, official_checkpoint.discriminator_ignored)

    def __call__(self, image: Tensor, c: Tensor | None = None) -> Tensor:
        return functional_call(self.network, self.weights, (image, c), strict=True)


@adapter("vitgan", "off_discriminator")
def official_discriminator(fixture: Fixture) -> Outputs:
    discriminator, image = OfficialDiscriminator(fixture.config["arch"], fixture.tensors), fixture.inputs["image"]
    last = len(discriminator.network.steps) - 1
    head = discriminator.network.steps[last]
    with outputs_of(discriminator.network, {"features": f"steps.{last - 1}"}) as recorded:
        outputs = {"logit": discriminator(image)}
    outputs["penultimate"] = features = recorded["features"].flatten(1)
    for name, output in {"project1": "projection", "project2": "projection2"}.items():
        weights = without_prefix(discriminator.weights, f"steps.{last}.{name}.")
        outputs[output] = functional_call(head.get_submodule(name), weights, features, strict=True)
    return outputs


@adapter("vitgan", "re_discriminator")
def reimplemented_discriminator(fixture: Fixture) -> Outputs:
    config, image = fixture.config, fixture.inputs["image"]
    args = config["arch"] | {"head_sizes": config.get("head_sizes")}
    spec = reimplementation.discriminator_spec(args)
    network = build(spec, fixture, resolution=image.shape[-2:], image_channels=image.shape[1])
    weights = weights_of(
        network,
        reimplementation_checkpoint.discriminator_rules(args),
        fixture.tensors | fixture.attributes,
        reimplementation_checkpoint.discriminator_ignored,
    )

    def discriminator(image: Tensor, c: Tensor | None = None) -> Tensor:
        return functional_call(network, weights, image, strict=True)

    with outputs_of(network, {"encoder_out": f"steps.{args['depth']}"}) as recorded:
        outputs = {"logit": discriminator(image)}
    outputs["encoder_out"] = recorded["encoder_out"][:, :, 0].mT
    batch, networks = Batch(real=image), Networks(nn.Identity(), discriminator, nn.Identity())
    if config.get("r1"):
        outputs["r1"] = R1(gamma=2.0)(networks, batch)
    if config.get("with_augment"):
        draws = {name: value for name, value in fixture.inputs.items() if name != "image"}
        augment = reimplemented_augment(args["diffaugment"])
        outputs["logit_augmented"] = discriminator(augment(image, draws))
        if config.get("bcr"):
            consistency = BalancedConsistency(lambda_real=1.0, lambda_fake=0.0, augment=augment.spec)
            consistency.augment.forward = lambda image: augment(image, draws)
            outputs["bcr_pairwise"] = consistency(networks, batch)
            # the re-implementation compares every image with every other
            outputs["bcr_as_coded"] = (outputs["logit_augmented"].flatten() - outputs["logit"]).square().mean()
    return outputs
