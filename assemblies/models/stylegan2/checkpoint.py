"""Pickles of StyleGAN2-ADA's "persistent" classes, which keep what they were made with, as StyleGAN3's do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from assemblies.conversion.importer import Conversion, Importer, Names, require
from assemblies.models.stylegan2 import architecture as stylegan2

WHY = "a pickle of whole networks does, a bare state dict does not"
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
    "channel_max": "Most channels of a resolution.",
    "conv_clamp": "Largest magnitude of features.",
    "epilogue_kwargs": "Options of the end, such as {mbstd_group_size: 4}.",
}


def is_generator(names: Names) -> bool:
    return {"mapping.fc0.weight", "synthesis.b4.const", "synthesis.b8.conv0.weight"} <= names


def generator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    for name in ("z_dim", "w_dim", "img_resolution", "img_channels"):
        require(args, name, WHY)
    spec, rules = stylegan2.generator_spec(args), stylegan2.generator_rules(args)
    return Conversion(spec, rules, tensors, stylegan2.generator_ignored)


def is_discriminator(names: Names) -> bool:
    return {"b4.conv.weight", "b4.fc.weight", "b4.out.weight"} <= names


def discriminator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    for name in ("img_resolution", "img_channels"):
        require(args, name, WHY)
    options = {"channel_base": 32768, "channel_max": 512} | dict(args)
    return Conversion(
        stylegan2.discriminator_spec(options),
        stylegan2.discriminator_rules(options),
        tensors,
        stylegan2.discriminator_ignored,
        context=stylegan2.discriminator_context(options),
    )


GENERATOR = Importer("stylegan2 generator", is_generator, generator, OPTIONS)
DISCRIMINATOR = Importer("stylegan2 discriminator", is_discriminator, discriminator, DISCRIMINATOR_OPTIONS, ("D",))
