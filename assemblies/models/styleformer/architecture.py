"""Styleformer's networks as specs, and the names of their tensors.

Styleformer, Park and Kim 2021, https://arxiv.org/abs/2106.07023. Options are called here as the reference's
constructors call them, which is how its files store them. The discriminator is StyleGAN2-ADA's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from assemblies.conversion.weight_map import WeightRule, rule
from assemblies.generator import LayeredGenerator
from assemblies.models.styleformer import presets as styleformer
from assemblies.models.stylegan2.architecture import (
    discriminator_context,
    discriminator_ignored,
    discriminator_rules,
    discriminator_spec,
    mapping_rules,
    outline,
    to_rgb_rules,
    understood,
)
from registry import Spec, incompatible

__all__ = [
    "discriminator_context",
    "discriminator_ignored",
    "discriminator_rules",
    "discriminator_spec",
    "generator_ignored",
    "generator_rules",
    "generator_spec",
]

Options = Mapping[str, Any]
IDLE = ("channel_base", "channel_max")  # the reference takes them and does nothing with them


def generator_spec(args: Options) -> Spec:
    """The generator of these options: z_dim, c_dim, w_dim, img_resolution, img_channels, mapping_kwargs and so on.

    The reference reserves more style vectors than its synthesis uses, one more for each resolution but the first;
    the generator here has those that are used.

    Raises:
        IncompatibleError: Options that nothing here corresponds to.
    """
    return LayeredGenerator.Spec(**outline(args), synthesis=list(synthesis_steps(args).values()))


def generator_rules(args: Options) -> list[WeightRule]:
    """Where the generator's tensors come from."""
    rules = list(mapping_rules("mapping", "mapping", args.get("mapping_kwargs", {}), args))
    for index, (name, step) in enumerate(synthesis_steps(args).items()):
        ours, theirs = f"synthesis.{index}", f"synthesis.{name}"
        if step["kind"] == "constant":
            rules.append(rule(f"{ours}.value", theirs, make=constant))
        elif step["kind"] == "pos-embed":
            rules.append(rule(f"{ours}.value", theirs, make=lambda value: square(value[0])))
        elif step["kind"] == "styled-attention":
            rules += attention_rules(ours, theirs, linformer=step["rank"] is not None)
        elif step["kind"] == "to-rgb":
            rules += to_rgb_rules(ours, theirs)
    return rules


def generator_ignored(name: str) -> bool:
    """Whether a tensor of the reference's generator holds nothing that was learnt, or is another's second name."""
    return name.endswith("resample_filter") or (name.endswith(".proj_weight") and ".enc." not in name)


def attention_rules(
    ours: str, theirs: str, *, linformer: bool, resolution: tuple[int, int] | None = None
) -> Iterator[WeightRule]:
    """Where a layer's tensors come from.

    Args:
        ours: Its name here.
        theirs: Its name there.
        linformer: Whether keys and values are summed up.
        resolution: Height and width of its map; None for a square.
    """

    def pixels(value: Tensor) -> Tensor:
        return value[:, 0].unflatten(0, resolution) if resolution else square(value)[..., 0]

    of_qkv = tuple(f"{theirs}.{letter}_weight" for letter in "qkv")
    yield rule(f"{ours}.qkv", *of_qkv, make=lambda *parts: torch.cat(parts))
    yield rule(f"{ours}.proj", f"{theirs}.w_weight")
    yield rule(f"{ours}.residual", f"{theirs}.u_weight")
    yield rule(f"{ours}.bias", f"{theirs}.bias")
    for part in ("weight", "bias"):
        yield rule(f"{ours}.affine.{part}", f"{theirs}.affine1.{part}")
    yield rule(f"{ours}.noise.strength", f"{theirs}.noise_strength")
    yield rule(f"{ours}.noise.const", f"{theirs}.noise_const", make=pixels)
    if linformer:
        yield rule(f"{ours}.sums.weight", f"{theirs}.proj_weight")


def square(tokens: Tensor) -> Tensor:
    """Tokens [L,...] as rows and columns [h,w,...] of a square."""
    side = isqrt(tokens.shape[0])
    return tokens.unflatten(0, (side, side))


def constant(tokens: Tensor) -> Tensor:
    """A learned constant [L,C] as [C,h,w]."""
    return square(tokens).permute(2, 0, 1)


def synthesis_steps(args: Options) -> dict[str, styleformer.Step]:
    """The generator's steps by their names there.

    The first resolution is 8, or 12 after the edit that the reference asks of users of STL-10; the number of
    resolutions tells which.

    Raises:
        IncompatibleError: Options that nothing here corresponds to.
    """
    options = {name: value for name, value in args["synthesis_kwargs"].items() if name not in IDLE}
    num_layers, dims = options.pop("num_layers"), options.pop("G_dict")
    size, doublings = args["img_resolution"], len(num_layers) - 1
    if len(dims) < len(num_layers):
        raise incompatible(
            ("synthesis_kwargs", "G_dict"), f"{len(dims)} widths for the {len(num_layers)} resolutions of num_layers"
        )
    if size % (1 << doublings):
        raise incompatible(
            ("synthesis_kwargs", "num_layers"),
            f"{len(num_layers)} resolutions, each twice the one before, do not end at {size}",
        )
    built = styleformer.synthesis_steps(
        size >> doublings,
        dims[: len(num_layers)],
        num_layers,
        head_dim=options.pop("depth", styleformer.HEAD_DIM),
        least_heads=options.pop("minimum_head", 1),
        rank=styleformer.RANK if options.pop("linformer", False) else None,
        clamp=options.pop("conv_clamp", None),
    )
    understood("synthesis_kwargs", options, architecture="skip", resample_filter=[1, 3, 3, 1], activation="lrelu")
    return built
