"""The style layer and ToRGB of the authors' code, the re-implementation's network of sines, and implicit patches."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from assemblies.models.vitgan.official import architecture as official
from assemblies.models.vitgan.official import checkpoint as official_checkpoint
from assemblies.models.vitgan.reimplementation import architecture as reimplementation
from assemblies.models.vitgan.reimplementation import checkpoint as reimplementation_checkpoint
from blocks.common.noise import Noise
from blocks.image_head.inr_patches import INRPatches
from blocks.image_head.siren_patches import Siren
from blocks.image_head.to_rgb import ToRGB
from blocks.layer.modulated_conv import ModulatedConv
from tests.golden.adapters.networks import apply_rules, with_prefix
from tests.golden.fixtures import Fixture, Outputs, adapter, without_prefix


@adapter("vitgan", "off_stylelayer")
def style_layer(fixture: Fixture) -> Outputs:
    config, x = fixture.config, fixture.inputs["x"]
    up = 2 if config.get("upsample", False) else 1
    block = ModulatedConv(
        config["in_channel"],
        tuple(x.shape[2:]),
        config["style_dim"],
        dim=config["out_channel"],
        kernel_size=config["kernel_size"],
        up=up,
        demodulate=config.get("demodulate", True),
    ).to(fixture.dtype)
    size = (up * x.shape[2], up * x.shape[3])
    rules = list(official_checkpoint.style_layer_rules("block", "layer", size, seed=0))
    set_noises(fixture, nn.ModuleDict({"block": block}), rules, prefix="layer.")
    weights = apply_rules(rules, with_prefix(fixture.tensors, "layer."))
    weights = {name: value.to(fixture.dtype) for name, value in without_prefix(weights, "block.").items()}
    return {"y": functional_call(block, weights, (x, fixture.inputs["w"][:, None]))}


@adapter("vitgan", "off_torgb")
def to_rgb(fixture: Fixture) -> Outputs:
    config, inputs = fixture.config, fixture.inputs
    block = ToRGB(config["in_channel"], config["style_dim"], 3, modulation="modulate").to(fixture.dtype)
    rules = official_checkpoint.to_rgb_rules("block", "layer")
    weights = without_prefix(apply_rules(rules, with_prefix(fixture.tensors, "layer.")), "block.")
    return {"rgb": functional_call(block, weights, (inputs["x"], inputs["w"][:, None], inputs.get("skip")))}


@adapter("vitgan", "off_cips")
def inr_patches(fixture: Fixture) -> Outputs:
    arch, token = fixture.config["arch"], fixture.inputs["token"]
    size = arch["size"]
    args = {"size": size, "token_width": 1, "cips_channels": arch["channels"], "cips_n_mlp": arch["n_mlp"]}
    spec = INRPatches.Spec.model_validate(official.inr_head(args)[0])
    block = spec.build(dim=arch["style_dim"], resolution=(1, 1), image_channels=3).to(fixture.dtype)
    rules = list(official_checkpoint.inr_rules("block", "cips", args, (size, size)))
    set_noises(fixture, nn.ModuleDict({"block": block}), rules, prefix="cips.")
    weights = apply_rules(rules, with_prefix(fixture.tensors, "cips."))
    weights = {name: value.to(fixture.dtype) for name, value in without_prefix(weights, "block.").items()}
    x = token[:, :, None, None]  # each token is a map of one pixel
    image = functional_call(block, weights, (x, x.new_zeros(len(x), 0, 1)), strict=False)
    return {"patch_train": image, "patch_eval": image.clamp(0, 1)}


@adapter("vitgan", "re_siren")
def siren(fixture: Fixture) -> Outputs:
    arch, pixels = fixture.config["arch"], fixture.inputs["pos"]
    assert arch.get("outermost_linear", True), "the reference cannot run without"
    widths = (arch["in_features"], *[arch["hidden_size"]] * (1 + arch["hidden_layers"]), arch["out_features"])
    args = arch | {"siren_hidden_layers": arch["hidden_layers"]}
    args["affine"] = [layer for layer, width in enumerate(widths[:-1]) if width != arch["style_size"]]
    modulation: Any = reimplementation.siren_modulation(args)
    block = Siren(widths, arch["style_size"], omega=arch.get("omega", 30.0), modulation=modulation).to(fixture.dtype)
    rules = reimplementation_checkpoint.siren_rules("block", "siren.", args)
    weights = without_prefix(apply_rules(rules, with_prefix(fixture.tensors, "siren.")), "block.")
    if modulation != "add":  # the reference reshapes [B,P,C] to [B,C,P]
        pixels = pixels.reshape(pixels.mT.shape).mT
    y = functional_call(block, weights, (pixels, fixture.inputs["style"]), strict=True)
    return {"y": y if modulation == "add" else y.mT.reshape(y.shape)}


def set_noises(fixture: Fixture, network: nn.Module, rules: Any, *, prefix: str = "") -> None:
    """Make each noise add the fixture's, which is named after the noise's strength; `prefix` is not in its name."""
    for target, sources, _ in rules:
        if sources and sources[0].endswith("noise.weight"):
            name = sources[0].removeprefix(prefix).removesuffix(".weight")
            set_noise(network.get_submodule(target.rpartition(".")[0]), fixture.inputs[f"noise:{name}"])


def set_noise(module: Any, noise: Tensor) -> None:
    """Make a noise add this one: [B,1,H,W] for an image, or [B N,1,P,P] for the patches of its N tokens."""
    assert isinstance(module, Noise)

    def sample(x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        size = (height, width) if len(noise) == batch else noise.shape[2:]
        patches = noise.view(batch, height // size[0], width // size[1], *size)
        return patches.transpose(2, 3).reshape(batch, height, width) * module.strength

    module.sample = sample  # type: ignore[method-assign]
