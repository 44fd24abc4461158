"""Styleformer's checkpoints, pickles of StyleGAN2-ADA's kind: recognition and weight rules of the generator.

The discriminator is StyleGAN2-ADA's, and so is its importer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from assemblies.conversion.importer import Conversion, Importer, Names, require
from assemblies.conversion.weight_map import WeightRule, rule
from assemblies.models.options import Options
from assemblies.models.styleformer.architecture import generator_spec, reference_synthesis
from assemblies.models.stylegan2.checkpoint import OPTIONS, REASON, mapping_rules, to_rgb_rules
from assemblies.models.weight_rules import weight_and_bias

NOISE_NOTE = "the reference draws new noise for every image; here noise is the constant that the file stores"


def is_generator(names: Names) -> bool:
    return "mapping.fc0.weight" in names and any(name.endswith("_0.enc.affine1.weight") for name in names)


def convert_generator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    for name in ("z_dim", "w_dim", "img_resolution", "img_channels", "synthesis_kwargs"):
        require(args, name, REASON)
    return Conversion(generator_spec(args), generator_rules(args), tensors, generator_ignored, (NOISE_NOTE,))


def generator_rules(args: Options) -> list[WeightRule]:
    """The generator's weight rules."""
    rules = list(mapping_rules("mapping", "mapping", args.get("mapping_kwargs", {}), args))
    for index, (name, step) in enumerate(reference_synthesis(args).items()):
        target, source = f"synthesis.{index}", f"synthesis.{name}"
        if step["kind"] == "constant":
            rules.append(rule(f"{target}.value", source, convert=constant))
        elif step["kind"] == "pos-embed":
            rules.append(rule(f"{target}.value", source, convert=pos_embedding))
        elif step["kind"] == "styled-attention":
            rules += attention_rules(target, source, linformer=step["rank"] is not None)
        elif step["kind"] == "to-rgb":
            rules += to_rgb_rules(target, source)
    return rules


def attention_rules(
    target: str, source: str, *, linformer: bool, resolution: tuple[int, int] | None = None
) -> Iterator[WeightRule]:
    """A layer of attention.

    Args:
        target: Its name here.
        source: Its name in the checkpoint.
        linformer: Whether keys and values are projected over the tokens.
        resolution: Height and width of its map; None for a square.
    """

    def noise_map(value: Tensor) -> Tensor:
        return value[:, 0].unflatten(0, resolution) if resolution else square(value)[..., 0]

    yield rule(f"{target}.qkv", *(f"{source}.{name}_weight" for name in "qkv"), convert=lambda *parts: torch.cat(parts))
    yield rule(f"{target}.proj", f"{source}.w_weight")
    yield rule(f"{target}.residual", f"{source}.u_weight")
    yield rule(f"{target}.bias", f"{source}.bias")
    yield from weight_and_bias(f"{target}.affine", f"{source}.affine1")
    yield rule(f"{target}.noise.strength", f"{source}.noise_strength")
    yield rule(f"{target}.noise.const", f"{source}.noise_const", convert=noise_map)
    if linformer:
        yield rule(f"{target}.proj_kv.weight", f"{source}.proj_weight")


def square(tokens: Tensor) -> Tensor:
    """Tokens [L,...] as rows and columns [h,w,...] of a square."""
    side = isqrt(tokens.shape[0])
    return tokens.unflatten(0, (side, side))


def constant(tokens: Tensor) -> Tensor:
    """A learned constant [L,C] as [C,h,w]."""
    return square(tokens).permute(2, 0, 1)


def pos_embedding(tokens: Tensor) -> Tensor:
    """Position embeddings [1,L,C] as [h,w,C]."""
    return square(tokens[0])


def generator_ignored(name: str) -> bool:
    """Whether a tensor is a filter, or the second name of another tensor."""
    return name.endswith("resample_filter") or (name.endswith(".proj_weight") and ".enc." not in name)


IMPORTERS = (Importer("styleformer generator", is_generator, convert_generator, OPTIONS),)
