"""The files of ViTGAN's authors (gen.pt, gen_ema.pt, dis.pt): bare state dicts, whose shapes tell most options."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from assemblies.conversion.importer import MEAN_STYLE, Conversion, Importer, Names, count, require, with_mean_style
from assemblies.models.stylenat.architecture import mean_style
from assemblies.models.vitgan import architecture as vitgan

HEAD_DIM = 64  # of all published configurations
OPTIONS = {
    "size": "Side of the images, in pixels; of the INR head only, whose tensors do not tell. 32 by default.",
    "heads": "Heads of the attention; as many as are 64 wide by default.",
    "token_width": "Patches on a side of the image; 8 by default.",
    "l2_attn": "Whether attention is their L2 attention, as it is by default, or the dot product's.",
    "sigma_init": "What stands for the weights' largest singular values at the start: expected, current or recorded.",
}
SIGMA = (
    "the weights' largest singular values at the start, which improved spectral norm multiplies by, are in no file of "
    "this form; {} stands for them (--set sigma_init=expected, current: {})"
)
MEANT = {
    "expected": "what weights of N(0,1) have on average, within 2 % of the true ones",
    "current": "what the weights have now",
}
RECORDED = "layers.0.attn.to_qkv.multiplier"  # in networks that were pickled whole


def is_generator(names: Names) -> bool:
    return {"lff.ffm.conv.weight", "layers.0.layernorm1.mlp_gamma.weight", "layernorm.mlp_beta.weight"} <= names


def generator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    options = told_by_tensors(tensors, args) | {name: args[name] for name in OPTIONS if name in args}
    notes = []
    if options["spectral_norm"]:
        how = options.setdefault("sigma_init", "recorded" if RECORDED in tensors else "expected")
        if how != "recorded":
            notes.append(SIGMA.format(MEANT.get(how, how), "; ".join(f"{name}, {MEANT[name]}" for name in MEANT)))
    if options["use_nerf_proj"] and "size" not in args:
        notes.append(f"images have {options['size']} px, the only size the authors' command trains (--set size=...)")
    notes += [
        "the authors draw noise anew for every image; here it is a constant, unless asked to be random",
        MEAN_STYLE,
    ]
    mapping = [f"style.{layer + 1}.{part}" for layer in range(options["n_mlp"]) for part in ("weight", "bias")]
    spec, rules = vitgan.generator_spec(options), vitgan.generator_rules(options)
    rules = with_mean_style(rules, mapping, partial(mean_style, 0.01))
    return Conversion(spec, rules, tensors, vitgan.generator_ignored, tuple(notes))


def told_by_tensors(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> dict[str, Any]:
    """Options that follow from the tensors' names and shapes."""
    normalised = "layers.0.attn.to_qkv.module.weight_bar" in tensors
    weight = "module.weight_bar" if normalised else "weight"
    inner, width = len(tensors[f"layers.0.attn.to_qkv.{weight}"]) // 3, int(args.get("token_width", 8))
    if inner % HEAD_DIM:
        require(args, "heads", f"{inner} channels do not split into heads of {HEAD_DIM}")
    heads = int(args.get("heads", inner // HEAD_DIM))
    told: dict[str, Any] = {
        "dim": len(tensors["lff.ffm.conv.weight"]),
        "num_layers": count(tensors, "layers.{}.layernorm1.mlp_gamma.weight"),
        "heads": heads,
        "dim_head": inner // heads,
        "mlp_dim": len(tensors[f"layers.0.ff.net.0.{weight}"]),
        "n_mlp": mapping_layers(tensors, "style."),
        "qkv_bias": f"layers.0.attn.to_qkv.{weight.replace('weight_bar', 'bias').replace('weight', 'bias')}" in tensors,
        "spectral_norm": normalised,
        "use_nerf_proj": "cips.conv1.conv.weight" in tensors,
    }
    if told["use_nerf_proj"]:
        later = range(0, count(tensors, "cips.layers.{}.conv.weight"), 2)
        dims = [
            tensors[name].shape[1]
            for name in ("cips.conv1.conv.weight", *(f"cips.layers.{i}.conv.weight" for i in later))
        ]
        return told | {"size": 32, "cips_channels": dims, "cips_n_mlp": mapping_layers(tensors, "cips.style.")}
    stages = count(tensors, "convs.{}.conv.weight") // 2
    dims = [tensors[f"convs.{2 * stage}.conv.weight"].shape[1] for stage in range(stages)]
    channels = {width << (stage + 1): dim for stage, dim in enumerate(dims)}
    return told | {"size": width << stages, "cnn_channels": channels}


def mapping_layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return sum(1 for name in tensors if name.startswith(prefix) and name.endswith(".weight"))


def is_discriminator(names: Names) -> bool:
    return {"layers.0.0.weight", "layers.1.conv2.1.weight", "layers.1.skip.1.weight", "last_conv.0.weight"} <= names


def discriminator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    blocks = count(["layers.0.conv1.0.weight", *tensors], "layers.{}.conv1.0.weight") - 1
    size = 4 << blocks
    channels = {size: len(tensors["layers.0.0.weight"]), 4: len(tensors["last_conv.0.weight"])}
    channels |= {size >> block: len(tensors[f"layers.{block}.conv2.1.weight"]) for block in range(1, blocks + 1)}
    options: dict[str, Any] = {"size": size, "channels": channels, "mlp_linear": "linear.l1.weight" in tensors}
    if "projection.0.weight" in tensors:
        options |= {"d_hidden": len(tensors["projection.0.weight"]), "d_project": len(tensors["projection.2.weight"])}
    else:
        options["projections"] = False
    return Conversion(
        vitgan.discriminator_spec(options),
        vitgan.discriminator_rules(options),
        tensors,
        vitgan.discriminator_ignored,
        context={"resolution": (size, size), "image_channels": tensors["layers.0.0.weight"].shape[1], "cond_dim": 0},
    )


GENERATOR = Importer("vitgan generator", is_generator, generator, OPTIONS)
DISCRIMINATOR = Importer("vitgan discriminator", is_discriminator, discriminator, {}, ("D",))
