"""The files of ViTGAN's authors (gen.pt, gen_ema.pt, dis.pt): recognition and weight rules.

The files are bare state dicts. Most options follow from the shapes of their tensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from assemblies.conversion.importer import Conversion, Importer, Names, count, require
from assemblies.conversion.weight_map import WeightRule, rule
from assemblies.models.options import Options
from assemblies.models.vitgan.official.architecture import (
    conv_head,
    discriminator_sizes,
    discriminator_spec,
    generator_spec,
    has_output_projection,
)
from assemblies.models.vitgan.weight_rules import SIGMA_OPTION, fourier_rules, sigma_note, spectral_norm_rules
from assemblies.models.weight_rules import (
    MEAN_STYLE_NOTE,
    layer_tensors,
    mean_style,
    mean_style_rule,
    new_tensor,
    weight_and_bias,
)

HEAD_DIM = 64  # of all published configurations
OPTIONS = {
    "size": "Side of the images, in pixels; for the INR head only, whose tensors do not depend on it. 32 by default.",
    "heads": "Heads of the attention; by default, heads have 64 channels.",
    "token_width": "Patches on a side of the image; 8 by default.",
    "l2_attn": "Whether attention is their L2 attention or, if false, dot-product attention; true by default.",
    "sigma_init": SIGMA_OPTION,
}
RECORDED = "layers.0.attn.to_qkv.multiplier"  # in networks that were pickled whole
EXPECTED = "their mean for weights drawn from N(0,1), within 2 % of the true values"
NOISE_NOTE = "the authors draw new noise for every image; here it is constant unless the noise mode is random"


def is_generator(names: Names) -> bool:
    return {"lff.ffm.conv.weight", "layers.0.layernorm1.mlp_gamma.weight", "layernorm.mlp_beta.weight"} <= names


def convert_generator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    options = options_from_shapes(tensors, args) | {name: args[name] for name in OPTIONS if name in args}
    notes = []
    if options["spectral_norm"]:
        sigma_init = options.setdefault("sigma_init", "recorded" if RECORDED in tensors else "expected")
        if sigma_init != "recorded":
            notes.append(sigma_note(sigma_init, EXPECTED))
    if options["use_nerf_proj"] and "size" not in args:
        notes.append(f"images have {options['size']} px, the only size the authors' command trains (--set size=...)")
    notes += [NOISE_NOTE, MEAN_STYLE_NOTE]
    return Conversion(generator_spec(options), generator_rules(options), tensors, generator_ignored, tuple(notes))


def options_from_shapes(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> dict[str, Any]:
    """The options that follow from the tensors' names and shapes."""
    spectral_norm = "layers.0.attn.to_qkv.module.weight_bar" in tensors
    weight, bias = ("module.weight_bar", "module.bias") if spectral_norm else ("weight", "bias")
    inner_dim, width = len(tensors[f"layers.0.attn.to_qkv.{weight}"]) // 3, int(args.get("token_width", 8))
    if inner_dim % HEAD_DIM:
        require(args, "heads", f"{inner_dim} channels do not split into heads of {HEAD_DIM}")
    heads = int(args.get("heads", inner_dim // HEAD_DIM))
    options: dict[str, Any] = {
        "dim": len(tensors["lff.ffm.conv.weight"]),
        "num_layers": count(tensors, "layers.{}.layernorm1.mlp_gamma.weight"),
        "heads": heads,
        "dim_head": inner_dim // heads,
        "mlp_dim": len(tensors[f"layers.0.ff.net.0.{weight}"]),
        "n_mlp": mapping_layers(tensors, "style."),
        "qkv_bias": f"layers.0.attn.to_qkv.{bias}" in tensors,
        "spectral_norm": spectral_norm,
        "use_nerf_proj": "cips.conv1.conv.weight" in tensors,
    }
    if options["use_nerf_proj"]:
        later = [f"cips.layers.{i}.conv.weight" for i in range(0, count(tensors, "cips.layers.{}.conv.weight"), 2)]
        dims = [tensors[name].shape[1] for name in ("cips.conv1.conv.weight", *later)]
        return options | {"size": 32, "cips_channels": dims, "cips_n_mlp": mapping_layers(tensors, "cips.style.")}
    stages = count(tensors, "convs.{}.conv.weight") // 2
    dims = [tensors[f"convs.{2 * stage}.conv.weight"].shape[1] for stage in range(stages)]
    channels = {width << (stage + 1): dim for stage, dim in enumerate(dims)}
    return options | {"size": width << stages, "cnn_channels": channels}


def mapping_layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return sum(1 for name in tensors if name.startswith(prefix) and name.endswith(".weight"))


def generator_rules(args: Options) -> list[WeightRule]:
    """The generator's weight rules; the option `sigma_init` is "recorded" by default."""
    depth, num_layers = args.get("num_layers", 4), args.get("n_mlp", 8)
    mapping = layer_tensors("style.{}", range(1, num_layers + 1))
    rules = [mean_style_rule(mapping, partial(mean_style, 0.01))]
    for layer in range(num_layers):
        rules += weight_and_bias(f"mapping.layers.{layer}", f"style.{layer + 1}")
    rules += fourier_rules("synthesis.0.fourier", "lff.ffm.conv")
    for layer in range(depth):
        rules += block_rules(f"synthesis.{1 + layer}", f"layers.{layer}", args)
    rules += sln_rules(f"synthesis.{1 + depth}.norm", "layernorm")
    step, width, size = 2 + depth, args.get("token_width", 8), args["size"]
    if args.get("use_nerf_proj", False):
        return [*rules, *inr_rules(f"synthesis.{step}", "cips", args, (size, size))]
    num_convs = len(conv_head(args)) - 1
    for layer in range(num_convs):
        side = width * 2 ** (1 + layer // 2)
        rules += style_layer_rules(f"synthesis.{step + layer}", f"convs.{layer}", (side, side), seed=layer)
    return [*rules, *to_rgb_rules(f"synthesis.{step + num_convs}", "to_rgb")]


def block_rules(target: str, source: str, args: Options) -> Iterator[WeightRule]:
    """A transformer block."""
    for number in (1, 2):
        yield from sln_rules(f"{target}.norm{number}", f"{source}.layernorm{number}")
    yield from attention_rules(f"{target}.attn", f"{source}.attn", args)
    for layer, name in {"fc1": "ff.net.0", "fc2": "ff.net.3"}.items():
        yield from linear_rules(f"{target}.mlp.{layer}", f"{source}.{name}", args)


def attention_rules(target: str, source: str, args: Options) -> Iterator[WeightRule]:
    """The attention of a block."""
    yield rule(f"{target}.temperature", f"{source}.temperature")
    yield from linear_rules(f"{target}.qkv", f"{source}.to_qkv", args, bias=args.get("qkv_bias", True))
    if has_output_projection(args):
        yield from linear_rules(f"{target}.proj", f"{source}.to_out.0", args)


def linear_rules(target: str, source: str, args: Options, *, bias: bool = True) -> Iterator[WeightRule]:
    """A linear map, under improved spectral norm unless the option `spectral_norm` is false."""
    if not args.get("spectral_norm", True):
        yield from weight_and_bias(target, source, bias=bias)
        return
    if bias:
        yield rule(f"{target}.bias", f"{source}.module.bias")
    yield from spectral_norm_rules(target, source, f"{source}.multiplier", args, expected_sigma)


def expected_sigma(weight: Tensor) -> Tensor:
    """The mean of the largest singular value of weights drawn from N(0,1)."""
    return weight.new_tensor(sum(math.sqrt(size) for size in weight.flatten(1).shape))


def inr_rules(target: str, source: str, args: Options, size: tuple[int, int]) -> Iterator[WeightRule]:
    """The implicit networks."""
    for layer in range(args.get("cips_n_mlp") or 4):
        yield from weight_and_bias(f"{target}.mapping.{layer}", f"{source}.style.{layer + 1}")
    yield from fourier_rules(f"{target}.fourier", f"{source}.lff.ffm.conv")
    entries = len(args.get("cips_channels") or (512, 512)) - 1
    for layer in range(1 + 2 * entries):
        name = f"{source}.layers.{layer - 1}" if layer else f"{source}.conv1"
        for part in style_layer_rules(f"{target}.layers.{layer}", name, size, seed=layer):
            # here noise is not a part of the layer, and the layer's weight is that of a linear map
            is_kernel = part.target == f"{target}.layers.{layer}.weight"
            name_here = part.target.replace(f"layers.{layer}.noise", f"noise.{layer}")
            yield WeightRule(name_here, part.sources, first_flattened if is_kernel else part.convert)
    for entry in range(entries):
        layer_name = f"early_rgb.{2 * entry + 2}" if entry < entries - 1 else "to_rgb"
        yield from to_rgb_rules(f"{target}.{layer_name}", f"{source}.to_rgbs.{entry}")


def style_layer_rules(target: str, source: str, size: tuple[int, int], *, seed: int) -> Iterator[WeightRule]:
    """A modulated convolution. The checkpoint has no constant noise, so it is drawn from the seed."""
    yield from affine_rules(f"{target}.affine", f"{source}.conv.modulation")
    yield rule(f"{target}.weight", f"{source}.conv.weight", convert=first)
    yield rule(f"{target}.bias", f"{source}.activate.bias")
    yield rule(f"{target}.noise.strength", f"{source}.noise.weight", convert=first)
    yield new_tensor(
        f"{target}.noise.const",
        lambda: torch.randn(size, generator=torch.Generator().manual_seed(seed), device="cpu"),
    )


def to_rgb_rules(target: str, source: str) -> Iterator[WeightRule]:
    """A ToRGB layer."""
    yield from affine_rules(f"{target}.affine", f"{source}.conv.modulation")
    yield rule(f"{target}.weight", f"{source}.conv.weight", convert=first_flattened)
    yield rule(f"{target}.bias", f"{source}.bias", convert=torch.flatten)


def affine_rules(target: str, source: str) -> Iterator[WeightRule]:
    """The linear map of a style; the authors' code adds 1 to its bias when it is used, here the bias starts at 1."""
    yield rule(f"{target}.weight", f"{source}.weight")
    yield rule(f"{target}.bias", f"{source}.bias", convert=lambda bias: bias + 1)


def sln_rules(target: str, source: str) -> Iterator[WeightRule]:
    for name in ("gamma", "beta"):
        yield from weight_and_bias(f"{target}.{name}", f"{source}.mlp_{name}")


def first(tensor: Tensor) -> Tensor:
    return tensor[0]


def first_flattened(weight: Tensor) -> Tensor:
    """[1,out,in,1,1] as [out,in]."""
    return weight[0].flatten(1)


def generator_ignored(name: str) -> bool:
    """Whether a tensor is not used: a filter, v, or a copy of a weight that is never updated."""
    return re.search(r"\.(blur\.kernel|module\.weight_v|module\.weight|multiplier)$", name) is not None


def is_discriminator(names: Names) -> bool:
    return {"layers.0.0.weight", "layers.1.conv2.1.weight", "layers.1.skip.1.weight", "last_conv.0.weight"} <= names


def convert_discriminator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
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
        discriminator_spec(options),
        discriminator_rules(options),
        tensors,
        discriminator_ignored,
        context={"resolution": (size, size), "image_channels": tensors["layers.0.0.weight"].shape[1], "cond_dim": 0},
    )


def discriminator_rules(args: Options) -> list[WeightRule]:
    """The discriminator's weight rules."""
    last = len(discriminator_sizes(args))
    rules = conv_rules("steps.0.conv", "layers.0.0", "layers.0.1")
    for block in range(1, last):
        target, source = f"steps.{block}", f"layers.{block}"
        rules += conv_rules(f"{target}.conv1", f"{source}.conv1.0", f"{source}.conv1.1")
        rules += conv_rules(f"{target}.conv2", f"{source}.conv2.1", f"{source}.conv2.2")
        rules.append(rule(f"{target}.skip.weight", f"{source}.skip.1.weight"))
    rules += conv_rules(f"steps.{last + 1}.conv", "last_conv.0", "last_conv.1")
    head = f"steps.{last + 2}"
    if args.get("mlp_linear", True):
        rules += [*weight_and_bias(f"{head}.hidden", "linear.l1"), *weight_and_bias(f"{head}.out", "linear.l2")]
    else:
        rules.append(rule(f"{head}.out.weight", "linear.weight", convert=equalized))
        rules.append(rule(f"{head}.out.bias", "linear.bias"))
    if args.get("projections", True):
        for name, source in {"project1": "projection", "project2": "projection2"}.items():
            for layer in (0, 2):
                rules += weight_and_bias(f"{head}.{name}.{layer}", f"{source}.{layer}")
    return rules


def equalized(weight: Tensor) -> Tensor:
    """The weight of a plain linear map as that of an equalised one, which divides by sqrt(inputs) when it is used."""
    return weight * weight.shape[1] ** 0.5


def conv_rules(target: str, weight: str, bias: str) -> list[WeightRule]:
    return [rule(f"{target}.weight", f"{weight}.weight"), rule(f"{target}.bias", f"{bias}.bias")]


def discriminator_ignored(name: str) -> bool:
    """Whether a tensor is a filter, or belongs to the heads for contrastive training."""
    return name.endswith(".kernel") or name.startswith("projection")


IMPORTERS = (
    Importer("vitgan generator", is_generator, convert_generator, OPTIONS),
    Importer("vitgan discriminator", is_discriminator, convert_discriminator, {}, ("D",)),
)
