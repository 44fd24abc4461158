"""The files of ViTGAN's best-known re-implementation: recognition and weight rules.

The files are networks pickled whole (Generator.pth, discriminator.pth), or their state dicts. Improved spectral norm
multiplies there by the value that one power iteration gave in the first forward pass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from assemblies.conversion.importer import Conversion, Importer, Names, count
from assemblies.conversion.weight_map import WeightRule, rule
from assemblies.models.options import Options
from assemblies.models.vitgan.reimplementation.architecture import HEAD_DIMS, discriminator_spec, generator_spec
from assemblies.models.vitgan.weight_rules import SIGMA_OPTION, fourier_rules, sigma_note, spectral_norm_rules
from assemblies.models.weight_rules import (
    MEAN_STYLE_NOTE,
    layer_tensors,
    mean_style,
    mean_style_rule,
    weight_and_bias,
)

OPTIONS = {
    "num_heads": "Heads of the attention; 4 by default.",
    "patch_size": "Side of a patch, in pixels; 4 by default.",
    "out_patch_size": "Side of a patch in the image, in pixels; patch_size by default.",
    "demodulation": "Whether the image head's modulated weights are normalised; false by default.",
}
DISCRIMINATOR_OPTIONS = {
    "num_heads": "Heads of the attention; 4 by default.",
    "stride_size": "Pixels from one patch to the next; half a patch by default.",
    "sigma_init": SIGMA_OPTION,
}
HEADS_NOTE = "attention has {} heads; no tensor depends on their number (--set num_heads=...)"
COMBINED = "to_single_emb.0"  # the map of all tokens to the style of one network of sines
EXPECTED = "their mean after one power iteration on new weights"


def is_generator(names: Names) -> bool:
    return {"pos_emb", "mlp.fc0.weight", "transformer_encoder.blocks.0.msa.qkv.weight"} <= names


def convert_generator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    tokens, dim = tensors["pos_emb"].shape[-2:]
    patch = int(args.get("patch_size", 4))
    sines = count(tensors, "siren.net.{}.linear.weight") or count(tensors, "siren.net.{}.linear.linear.weight")
    last = tensors.get(f"siren.net.{sines}.weight")
    size = isqrt(tokens) * patch
    options: dict[str, Any] = {
        "image_size": size,
        "patch_size": patch,
        "out_patch_size": patch,
        "hidden_size": dim,
        "latent_dim": tensors["mlp.fc0.weight"].shape[1],
        "style_mlp_layers": count(tensors, "mlp.fc{}.weight"),
        "depth": count(tensors, "transformer_encoder.blocks.{}.msa.qkv.weight"),
        "num_heads": 4,
        "out_features": 3 if last is None else last.shape[1],
        "siren_hidden_layers": sines - 1,
        "weight_modulation": last is not None,
        "affine": [layer for layer in range(sines + 1) if has_affine(tensors, layer, sines)],
    }
    if f"{COMBINED}.weight" in tensors:
        options |= {"combine_patch_embeddings": True, "bias": f"{COMBINED}.bias" in tensors, "out_patch_size": size}
    options |= {name: args[name] for name in OPTIONS if name in args}
    size_note = f"images have {size} px, patches {patch} (--set patch_size=...)"
    notes = (HEADS_NOTE.format(options["num_heads"]), size_note, MEAN_STYLE_NOTE)
    return Conversion(generator_spec(options), generator_rules(options), tensors, generator_ignored, notes)


def has_affine(tensors: Mapping[str, Tensor], layer: int, last: int) -> bool:
    """Whether a layer of sines has a linear map of its style; it has none where their widths agree."""
    name = f"siren.net.{layer}" if layer == last else f"siren.net.{layer}.linear"
    return f"{name}.modulation.weight" in tensors


def generator_rules(args: Options) -> list[WeightRule]:
    """The generator's weight rules."""
    depth, side = args["depth"], args["image_size"] // args["patch_size"]
    rules = [mean_style_rule(layer_tensors("mlp.fc{}", range(args["style_mlp_layers"])), mean_style_without_gain)]
    for layer in range(args["style_mlp_layers"]):
        for name in ("weight", "bias"):
            rules.append(rule(f"mapping.layers.{layer}.{name}", f"mlp.fc{layer}.{name}", convert=over_root_two))
    rules.append(rule("synthesis.0.angles", "pos_emb", convert=lambda angles: angles.unflatten(0, (side, side))))
    for layer in range(depth):
        target, source = f"synthesis.{1 + layer}", f"transformer_encoder.blocks.{layer}"
        rules += sln_rules(f"{target}.norm1", f"{source}.sln")
        rules += attention_rules(f"{target}.attn", f"{source}.msa", args, spectral_norm=False)
    rules += sln_rules(f"synthesis.{1 + depth}.norm", "sln")
    head = f"synthesis.{2 + depth}"
    if args.get("combine_patch_embeddings", False):
        rules += weight_and_bias(f"{head}.join", COMBINED, bias=args.get("bias", True))
    rules += fourier_rules(f"{head}.fourier", "lff.ffm.conv")
    return [*rules, *siren_rules(f"{head}.network", "siren.", args)]


def siren_rules(target: str, source: str, args: Options) -> Iterator[WeightRule]:
    """The network of sines; the option `affine` lists the layers whose style has another width."""
    last = 1 + args.get("siren_hidden_layers", 1)
    for layer in range(last + 1):
        name = f"{source}net.{layer}" if layer == last else f"{source}net.{layer}.linear"
        if args.get("weight_modulation", True):
            yield rule(f"{target}.layers.{layer}.weight", f"{name}.weight", convert=lambda weight: weight[0].flatten(1))
            if layer in args.get("affine", ()):
                yield rule(f"{target}.layers.{layer}.affine.weight", f"{name}.modulation.weight")
        else:
            yield rule(f"{target}.layers.{layer}.weight", f"{name}.linear.weight")
            yield rule(f"{target}.layers.{layer}.affine.weight", f"{name}.style.weight")


def sln_rules(target: str, source: str) -> Iterator[WeightRule]:
    yield from weight_and_bias(f"{target}.norm", f"{source}.ln")
    for name in ("gamma", "beta"):
        yield rule(f"{target}.{name}.weight", f"{source}.{name}.weight")


def attention_rules(target: str, source: str, args: Options, *, spectral_norm: bool) -> Iterator[WeightRule]:
    """The attention of a block. The rows of the checkpoint's qkv are in order of head, channel and role."""
    heads = args.get("num_heads", 4)
    for layer, name in {"qkv": "qkv", "proj": "projection"}.items():
        plain = weight_and_bias(f"{target}.{layer}", f"{source}.{name}")
        for part in linear_rules(f"{target}.{layer}", f"{source}.{name}", args) if spectral_norm else plain:
            reordered = name == "qkv" and not part.target.endswith("sigma_init")
            yield part._replace(convert=lambda rows: role_first(rows, heads)) if reordered else part


def role_first(rows: Tensor, num_heads: int) -> Tensor:
    """Rows in order of role, head and channel."""
    return rows.unflatten(0, (num_heads, -1, 3)).movedim(2, 0).flatten(0, 2)


def over_root_two(tensor: Tensor) -> Tensor:
    """Weights for an activation that multiplies by sqrt(2), which the re-implementation's does not."""
    return tensor / math.sqrt(2)


def mean_style_without_gain(*tensors: Tensor) -> Tensor:
    return mean_style(0.01, *map(over_root_two, tensors))


def generator_ignored(name: str) -> bool:
    """Whether a tensor belongs to a feed-forward network, whose results the re-implementation discards."""
    return ".feed_forward." in name


def is_discriminator(names: Names) -> bool:
    return {"0.cls_token", "0.positions", "1.0.0.fn.1.qkv.module.weight_bar"} <= names


def convert_discriminator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    dim, channels, patch, _ = tensors["0.projection.0.module.weight_bar"].shape
    stride = int(args.get("stride_size", patch // 2))
    size = (isqrt(len(tensors["0.positions"]) - 1) - 1) * stride + patch
    weights = [f"2.{index}.module.weight_bar" for index in range(1, 20, 2)]
    sizes = [len(tensors[name]) for name in weights if name in tensors]
    recorded = "0.projection.0.w_init_sigma" in tensors
    options: dict[str, Any] = {
        "patch_size": patch,
        "stride_size": stride,
        "emb_size": dim,
        "depth": count(tensors, "1.{}.0.fn.1.qkv.module.weight_bar"),
        "num_heads": 4,
        "forward_expansion": len(tensors["1.0.1.fn.1.0.module.weight_bar"]) / dim,
        "head_sizes": sizes[:-1],
        "sigma_init": "recorded" if recorded else "expected",
    }
    options |= {name: args[name] for name in DISCRIMINATOR_OPTIONS if name in args}
    notes = [HEADS_NOTE.format(options["num_heads"])]
    notes.append(f"images have {size} px, patches a stride of {stride} (--set stride_size=...)")
    if not recorded:
        notes.append(sigma_note(options["sigma_init"], EXPECTED))
    return Conversion(
        discriminator_spec(options),
        discriminator_rules(options),
        tensors,
        discriminator_ignored,
        tuple(notes),
        {"resolution": (size, size), "image_channels": channels, "cond_dim": 0},
    )


def discriminator_rules(args: Options) -> list[WeightRule]:
    """The discriminator's weight rules; the option `sigma_init` is "recorded" by default."""
    depth = args["depth"]
    rules = list(patch_rules("steps.0", "0", args))
    for layer in range(depth):
        target, source = f"steps.{1 + layer}", f"1.{layer}"
        rules += weight_and_bias(f"{target}.norm1", f"{source}.0.fn.0")
        rules += weight_and_bias(f"{target}.norm2", f"{source}.1.fn.0")
        rules += attention_rules(f"{target}.attn", f"{source}.0.fn.1", args, spectral_norm=True)
        for name, index in {"fc1": "0", "fc2": "3"}.items():
            rules += linear_rules(f"{target}.mlp.{name}", f"{source}.1.fn.1.{index}", args)
    head = f"steps.{1 + depth}"
    rules += weight_and_bias(f"{head}.norm", "2.0")
    layers = len(args.get("head_sizes") or HEAD_DIMS)
    for layer in range(layers + 1):
        name = f"{head}.out" if layer == layers else f"{head}.hidden.{2 * layer}"
        rules += linear_rules(name, f"2.{1 + 2 * layer}", args)
    return rules


def patch_rules(target: str, source: str, args: Options) -> Iterator[WeightRule]:
    """The tokens of the patches."""
    yield rule(f"{target}.class_token", f"{source}.cls_token", convert=torch.flatten)
    yield rule(f"{target}.pos_embed", f"{source}.positions")
    yield from linear_rules(f"{target}.proj", f"{source}.projection.0", args)


def linear_rules(target: str, source: str, args: Options) -> Iterator[WeightRule]:
    """A linear map or convolution under improved spectral norm."""
    yield rule(f"{target}.bias", f"{source}.module.bias")
    yield from spectral_norm_rules(target, source, f"{source}.w_init_sigma", args, expected_sigma)


def expected_sigma(weight: Tensor) -> Tensor:
    """The mean of one power iteration's result on weights as torch initialises linear maps and convolutions."""
    rows, columns = weight.flatten(1).shape
    return weight.new_tensor(math.sqrt((rows + columns) / (3 * columns)))


def discriminator_ignored(name: str) -> bool:
    """Whether a tensor is not used, or is an outdated copy of a weight."""
    return re.search(r"\.(module\.weight_v|module\.weight|w_init_sigma)$", name) is not None


IMPORTERS = (
    Importer("vitgan re-implementation's generator", is_generator, convert_generator, OPTIONS),
    Importer(
        "vitgan re-implementation's discriminator",
        is_discriminator,
        convert_discriminator,
        DISCRIMINATOR_OPTIONS,
        ("D",),
    ),
)
