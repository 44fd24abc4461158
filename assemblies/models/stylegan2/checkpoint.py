"""StyleGAN2-ADA's checkpoints, and StyleGAN2 models of StyleGAN3's code: recognition and weight rules.

The files are pickles of whole networks of "persistent" classes, which store the constructor arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from assemblies.conversion.importer import Conversion, Importer, Names, require
from assemblies.conversion.weight_map import WeightRule, rule
from assemblies.models.options import Options
from assemblies.models.stylegan2.architecture import (
    discriminator_context,
    discriminator_spec,
    generator_spec,
    reference_discriminator,
    reference_synthesis,
)
from assemblies.models.weight_rules import flatten_kernel, weight_and_bias

REASON = "a pickle of whole networks has it, a bare state dict does not"
OPTIONS = {
    "z_dim": "Features of the latent.",
    "c_dim": "Features of the condition; 0 for none.",
    "w_dim": "Features of a style.",
    "img_resolution": "Side of the images, in pixels.",
    "img_channels": "Channels of the images.",
    "mapping_kwargs": "Options of the mapping, such as {num_layers: 8}.",
    "synthesis_kwargs": "Options of the synthesis, such as {channel_base: 32768, channel_max: 512}.",
}
DISCRIMINATOR_OPTIONS = {
    "c_dim": "Features of the condition; 0 for none.",
    "img_resolution": "Side of the images, in pixels.",
    "img_channels": "Channels of the images.",
    "architecture": "resnet, orig or skip.",
    "channel_base": "Channels times resolution.",
    "channel_max": "Upper limit of the channels.",
    "conv_clamp": "Largest magnitude of a layer's output.",
    "mapping_kwargs": "Options of the mapping of labels, such as {num_layers: 8}.",
    "epilogue_kwargs": "Options of the last block, such as {mbstd_group_size: 4}.",
}


def is_generator(names: Names) -> bool:
    return {"mapping.fc0.weight", "synthesis.b4.const", "synthesis.b8.conv0.weight"} <= names


def convert_generator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    for name in ("z_dim", "w_dim", "img_resolution", "img_channels"):
        require(args, name, REASON)
    return Conversion(generator_spec(args), generator_rules(args), tensors, is_resample_filter)


def generator_rules(args: Options) -> list[WeightRule]:
    """The generator's weight rules."""
    rules = list(mapping_rules("mapping", "mapping", args.get("mapping_kwargs", {}), args))
    for index, name in enumerate(reference_synthesis(args)):
        target, source = f"synthesis.{index}", f"synthesis.{name}"
        if name.endswith("const"):
            rules.append(rule(f"{target}.value", source))
        elif name.endswith("torgb"):
            rules += to_rgb_rules(target, source)
        else:
            rules += conv_rules(target, source)
    return rules


def conv_rules(target: str, source: str) -> list[WeightRule]:
    """A modulated convolution."""
    names = ("affine.weight", "affine.bias", "weight", "bias")
    noise = {"const": "noise_const", "strength": "noise_strength"}
    return [
        *(rule(f"{target}.{name}", f"{source}.{name}") for name in names),
        *(rule(f"{target}.noise.{name}", f"{source}.{old}") for name, old in noise.items()),
    ]


def mapping_rules(
    target: str, source: str, mapping: Options, args: Options, *, tracks_mean: bool = True
) -> Iterator[WeightRule]:
    """A mapping network.

    Args:
        target: Its name here.
        source: Its name in the checkpoint.
        mapping: Its own options.
        args: The options of its network.
        tracks_mean: Whether the checkpoint has the mean of its outputs.
    """
    num_layers = mapping.get("num_layers", 8)
    if tracks_mean:
        yield rule(f"{target}.w_avg", f"{source}.w_avg")
    else:
        yield WeightRule(f"{target}.w_avg", (f"{source}.fc{num_layers - 1}.bias",), torch.zeros_like)
    if args.get("c_dim", 0):
        yield from weight_and_bias(f"{target}.embed", f"{source}.embed")
    for layer in range(num_layers):
        yield from weight_and_bias(f"{target}.layers.{layer}", f"{source}.fc{layer}")


def to_rgb_rules(target: str, source: str) -> list[WeightRule]:
    """A ToRGB layer."""
    return [
        *weight_and_bias(f"{target}.affine", f"{source}.affine"),
        rule(f"{target}.weight", f"{source}.weight", convert=flatten_kernel),
        rule(f"{target}.bias", f"{source}.bias"),
    ]


def is_resample_filter(name: str) -> bool:
    """Whether a tensor is a filter, which is computed and not learned."""
    return name.rpartition(".")[2] == "resample_filter"


def is_discriminator(names: Names) -> bool:
    return {"b4.conv.weight", "b4.fc.weight", "b4.out.weight"} <= names


def convert_discriminator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    for name in ("img_resolution", "img_channels"):
        require(args, name, REASON)
    options = {"channel_base": 32768, "channel_max": 512} | dict(args)
    return Conversion(
        discriminator_spec(options),
        discriminator_rules(options),
        tensors,
        is_resample_filter,
        context=discriminator_context(options),
    )


def discriminator_rules(args: Options) -> list[WeightRule]:
    """The discriminator's weight rules."""
    rules: list[WeightRule] = []
    resnet = args.get("architecture", "resnet") == "resnet"
    for index, name in enumerate(reference_discriminator(args)):
        target = f"steps.{index}"
        if name == "b4.head":
            rules += [*weight_and_bias(f"{target}.hidden", "b4.fc"), *weight_and_bias(f"{target}.out", "b4.out")]
            if args.get("c_dim", 0):
                mapping = args.get("mapping_kwargs", {})
                rules += mapping_rules(f"{target}.projection.mapping", "mapping", mapping, args, tracks_mean=False)
        elif name.endswith(("fromrgb", "b4.conv")):
            rules += weight_and_bias(f"{target}.conv", name)
        elif name != "b4.mbstd":
            rules += weight_and_bias(f"{target}.conv1", f"{name}.conv0")
            rules += weight_and_bias(f"{target}.conv2", f"{name}.conv1")
            rules += [rule(f"{target}.skip.weight", f"{name}.skip.weight")] if resnet else []
    return rules


IMPORTERS = (
    Importer("stylegan2 generator", is_generator, convert_generator, OPTIONS),
    Importer("stylegan2 discriminator", is_discriminator, convert_discriminator, DISCRIMINATOR_OPTIONS, ("D",)),
)
