"""StyleGAN-T's checkpoints: recognition and weight rules.

The files are pickles that dill wrote: whole networks with their classes by reference and without constructor arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from assemblies.conversion.importer import Conversion, Importer, Names, count, require
from assemblies.conversion.weight_map import WeightRule, rule
from assemblies.models.options import Options
from assemblies.models.stylegan_t.architecture import (
    HOOKS,
    discriminator_context,
    discriminator_spec,
    generator_spec,
    reference_synthesis,
)
from assemblies.models.weight_rules import flatten_kernel, weight_and_bias

OPTIONS = {
    "gn_groups": "Groups of the group norms; 32 by default.",
    "clip": "open_clip's name or configuration of the text tower in the file; null leaves the tower out.",
}
CLIP, TOWER = "ViT-L-14-quickgelu", "mapping.clip.model."  # OpenAI's, as in the published code
DISCRIMINATOR_OPTIONS = {
    "img_resolution": "Side of the images, in pixels.",
    "num_heads": "Heads of the vision transformer; by default, heads have 64 channels.",
    "virtual_bs": "Samples per group of the batch norms; 8 by default.",
}
VIT = "dino.model.model."
UNUSED_OF_TOWER = ("logit_scale", "attn_mask")


def is_generator(names: Names) -> bool:
    return {"mapping.x_avg", "synthesis.b8.input.freqs", "synthesis.b8.convs1.0.affine.proj.weight"} <= names


def convert_generator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    options = options_from_shapes(tensors)
    options["synthesis_kwargs"]["gn_groups"] = int(args.get("gn_groups", 32))
    spec, rules, notes = generator_spec(options), generator_rules(options), []
    in_tower = (name.removeprefix(TOWER) for name in tensors if name.startswith(TOWER))
    tower = [name for name in in_tower if not name.endswith(UNUSED_OF_TOWER)]
    if tower and (clip := args.get("clip", CLIP)):
        condition = {"kind": "open-clip-text", "model": clip, "embed_weights": True}
        spec = type(spec)(**spec.to_dict() | {"condition": condition})
        rules += [rule(f"condition.tower.{name}", TOWER + name) for name in tower]
        notes.append("CLIP's text tower is in the file and becomes a part of the model (--set clip=null leaves it out)")
    elif options["c_dim"]:
        notes.append(f"its condition is a text embedding of {options['c_dim']} features by CLIP's text tower")
    return Conversion(spec, rules, tensors, generator_ignored, tuple(notes))


def options_from_shapes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor arguments, all of which but `gn_groups` follow from the tensors' names and shapes."""
    matches = (re.match(r"synthesis\.b(\d+)\.", name) for name in tensors)
    sides = sorted({int(match[1]) for match in matches if match})
    channels = {side: len(tensors[f"synthesis.b{side}.convs1.0.weight"]) for side in sides}
    z_dim, w_dim = len(tensors["mapping.x_avg"]), tensors["synthesis.b8.input.affine.weight"].shape[1]
    widest = max(channels.values())
    narrow = [side for side in sides if channels[side] < widest]
    pairs = count(tensors, "synthesis.b8.convs1.{}.weight") // 2
    return {
        "z_dim": z_dim,
        "c_dim": w_dim - z_dim,
        "w_dim": w_dim,
        "num_ws": len(sides) * (1 + 2 * pairs) + 1,
        "img_resolution": sides[-1],
        "img_channels": len(tensors[f"synthesis.b{sides[-1]}.torgb.weight"]),
        "synthesis_kwargs": {
            "architecture": "skip" if "synthesis.b8.torgb.weight" in tensors else "orig",
            "num_res_blocks": pairs,
            "channel_base": channels[narrow[0]] * narrow[0] if narrow else widest * sides[-1],
            "channel_max": widest,
        },
    }


def generator_rules(args: Options) -> list[WeightRule]:
    """The generator's weight rules."""
    rules = list(mapping_rules("mapping.", "mapping.", args))
    for index, name in enumerate(reference_synthesis(args)):
        rules += step_rules(f"synthesis.{index}.", f"synthesis.{name}.", name)
    return rules


def mapping_rules(target: str, source: str, args: Options) -> Iterator[WeightRule]:
    """The mapping network; `target` and `source` are prefixes that end with a dot, or empty."""
    yield rule(f"{target}w_avg", f"{source}x_avg")
    for layer in range(args.get("num_layers", 2)):
        yield from weight_and_bias(f"{target}layers.{layer}", f"{source}mlp.fc{layer}")


def step_rules(target: str, source: str, name: str) -> list[WeightRule]:
    """A step of the synthesis; its name in the checkpoint gives its kind."""
    if name.endswith("input"):
        buffers = ("weight", "freqs", "phases", "transform")
        return [
            *weight_and_bias(f"{target}affine", f"{source}affine"),
            *(rule(target + buffer, source + buffer) for buffer in buffers),
        ]
    if name.endswith("torgb"):
        return [
            *weight_and_bias(f"{target}affine.proj", f"{source}affine.proj"),
            rule(f"{target}weight", f"{source}weight", convert=flatten_kernel),
            rule(f"{target}bias", f"{source}bias"),
        ]
    if re.search(r"convs1\.\d*[13579]$", name):  # the second of each pair
        return [
            *weight_and_bias(f"{target}norm", f"{source}norm"),
            rule(f"{target}scale.gamma", f"{source}gamma", convert=torch.flatten),
            *conv_rules(f"{target}layer.", source),
        ]
    return conv_rules(target, source)


def conv_rules(target: str, source: str) -> list[WeightRule]:
    """A modulated convolution."""
    return [
        *weight_and_bias(f"{target}affine.proj", f"{source}affine.proj"),
        *(rule(target + name, source + name) for name in ("weight", "bias")),
        rule(f"{target}noise.strength", f"{source}noise_strength"),
        rule(f"{target}noise.const", f"{source}noise_const"),
    ]


def generator_ignored(name: str) -> bool:
    """Whether a tensor of the generator is a filter, or belongs to CLIP's text tower."""
    return name.rpartition(".")[2] == "resample_filter" or name.startswith("mapping.clip.")


def is_discriminator(names: Names) -> bool:
    return {f"{VIT}pos_embed", "heads.0.main.0.0.weight_orig", "heads.0.cls.weight_orig"} <= names


def convert_discriminator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    dim, channels, patch, _ = tensors[f"{VIT}patch_embed.proj.weight"].shape
    if dim % 64:
        require(args, "num_heads", f"{dim} channels do not split into heads of 64")
    cmapper = tensors.get("heads.0.cmapper.weight")
    vit = {
        "img_size": isqrt(tensors[f"{VIT}pos_embed"].shape[1] - 1) * patch,
        "patch": patch,
        "embed_dim": dim,
        "depth": count(tensors, VIT + "blocks.{}.norm1.weight"),
        "num_heads": int(args.get("num_heads", dim // 64)),
        "mlp_ratio": len(tensors[f"{VIT}blocks.0.mlp.fc1.weight"]) / dim,
    }
    options = {
        "c_dim": 0 if cmapper is None else cmapper.shape[1],
        "cmap_dim": 64 if cmapper is None else len(cmapper),
        "virtual_bs": int(args.get("virtual_bs", 8)),
        "img_resolution": require(args, "img_resolution", "it takes images of any size"),
        "img_channels": channels,
        "vit": vit,
    }
    return Conversion(
        discriminator_spec(options),
        discriminator_rules(options, tensors),
        tensors,
        context=discriminator_context(options),
    )


def discriminator_rules(args: Options, names: Iterable[str]) -> list[WeightRule]:
    """The discriminator's weight rules.

    Args:
        args: The discriminator's options.
        names: Names of the checkpoint's tensors; those of the backbone stay the same.
    """
    rules = list(backbone_rules("networks.0.", VIT, names))
    for index in range(len(HOOKS) + 1):
        rules += head_rules(f"heads.0.{index}.", f"heads.{index}.", args)
    return rules


def backbone_rules(target: str, source: str, names: Iterable[str]) -> Iterator[WeightRule]:
    """The frozen backbone, whose tensors have timm's names in the checkpoint too."""
    for name in names:
        if name.startswith(source):
            yield rule(f"{target}network.network.{name.removeprefix(source)}", name)


def head_rules(target: str, source: str, args: Options) -> list[WeightRule]:
    """A head of the discriminator."""
    rules = weight_and_bias(f"{target}norm1", f"{source}main.0.1")
    rules += weight_and_bias(f"{target}norm2", f"{source}main.1.fn.1")
    for layer, name in (("conv1", "main.0.0"), ("conv2", "main.1.fn.0"), ("out", "cls")):
        weight = f"{target}{layer}.parametrizations.weight"
        rules.append(rule(f"{target}{layer}.bias", f"{source}{name}.bias"))
        rules.append(rule(f"{weight}.original", f"{source}{name}.weight_orig"))
        rules += [rule(f"{weight}.0.{vector}", f"{source}{name}.weight_{vector}") for vector in "uv"]
    if args.get("c_dim", 0):
        rules += weight_and_bias(f"{target}projection.embed", f"{source}cmapper")
    return rules


IMPORTERS = (
    Importer("stylegan-t generator", is_generator, convert_generator, OPTIONS),
    Importer("stylegan-t discriminator", is_discriminator, convert_discriminator, DISCRIMINATOR_OPTIONS, ("D",)),
)
