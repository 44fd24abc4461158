"""ViTGAN as its authors published it: specs from their constructors' arguments, and where each tensor comes from.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589; the names are those of the authors' code (mlpc-ucsd/ViTGAN).

Improved spectral norm multiplies by the singular value that a weight had when it was initialised, and no checkpoint of
the authors holds it. `sigma_init` says what stands for it: "recorded" takes `<map>.multiplier` from beside the tensors,
"expected" the value that weights of N(0,1) have on average (the true ones are within 2 % of it), "current" the singular
value that the weight has now.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch

from assemblies.conversion.weight_map import WeightRule, rule
from assemblies.discriminator import LayeredDiscriminator
from assemblies.generator import LayeredGenerator
from assemblies.models.vitgan.parts import (
    Options,
    block_rules,
    fourier_rules,
    inr_rules,
    nothing,
    pair,
    sln_rules,
    style_layer_rules,
    to_rgb_rules,
)
from registry import Spec, incompatible

SLN = {"kind": "sln", "gain_init": 1.0, "eps": 1e-3}
ISN = {"kind": "improved-spectral-norm", "sigma": "power-iteration"}


def generator_spec(args: Options) -> Spec:
    """The generator of these options.

    Args:
        args: size, and where they are not the authors': token_width, num_layers, dim, heads, mlp_dim, n_mlp,
            use_nerf_proj with cips_channels and cips_n_mlp, or cnn_channels. `qkv_bias` false leaves out the bias that
            their attention adds although it was told not to.
    """
    dim, width = args.get("dim", 384), args.get("token_width", 8)
    return LayeredGenerator.Spec(
        z_dim=dim,
        mapping={"kind": "mapping", "num_layers": args.get("n_mlp", 8)},
        synthesis=[
            {"kind": "learned-tokens", "dim": dim, "resolution": width},
            block_options(args) | {"repeat": args.get("num_layers", 4)},
            {"kind": "norm", "norm": SLN},
            *(inr_head(args) if args.get("use_nerf_proj", False) else conv_head(args)),
        ],
        value_range="unit",
    )


def block_options(args: Options) -> dict[str, Any]:
    """The transformer block: what is carried on is normalised, and attention is called L2."""
    dim, heads = args.get("dim", 384), args.get("heads", 6)
    common = {
        "num_heads": heads,
        "head_dim": args.get("dim_head") or dim // heads,
        "qkv_bias": args.get("qkv_bias", True),
        "temperature": True,
        "equalized": True,
    }
    attention = {"kind": "dense", **common}
    if args.get("l2_attn", True):
        attention = {"kind": "l2", "tied": False, "sign": 1, "key_norms": "mean-of-queries", **common}
    return {
        "kind": "transformer",
        "attention": attention,
        "norm": SLN,
        "feed_forward": {
            "kind": "mlp",
            "mlp_ratio": ratio(args.get("mlp_dim", 4 * dim), dim),
            "activation": "silu",
            "equalized": True,
        },
        "residual": "normalised",
        "weight_norm": ISN if args.get("spectral_norm", True) else None,
    }


def conv_head(args: Options) -> list[dict[str, Any]]:
    """Twice the resolution by two modulated convolutions, until the image's size; its colours are in [0,1]."""
    width, size = args.get("token_width", 8), args["size"]
    sizes = [width << doubled for doubled in range(1, size.bit_length()) if width << doubled <= size]
    if not sizes or sizes[-1] != size:
        raise incompatible("size", f"{width} tokens never double to {size} pixels; take the INR head")
    channels = {int(side): dim for side, dim in (args.get("cnn_channels") or conv_channels(args)).items()}
    steps = [{"kind": "modulated-conv", "dim": channels[side], "up": up} for side in sizes for up in (2, 1)]
    return [*steps, {"kind": "to-rgb", "modulation": "modulate"}]


def conv_channels(args: Options) -> dict[int, int]:
    """Channels of the convolutional head at each size."""
    dim, factor = args.get("dim", 384), args.get("channel_multiplier", 2)
    wide = {8: dim, 16: dim, 32: dim}
    return wide | {side: max(1, dim * 32 * factor // side) for side in (64, 128, 256, 512, 1024)}


def inr_head(args: Options) -> list[dict[str, Any]]:
    """An implicit network for each token."""
    first, *rest = args.get("cips_channels") or (512, 512)
    size, width = args["size"], args.get("token_width", 8)
    if size % width:
        raise incompatible("size", f"{size} pixels do not divide into {width} patches")
    return [
        {
            "kind": "inr-patches",
            "patch_size": size // width,
            "hidden_dims": [first, *(dim for dim in rest for _ in range(2))],
            "mapping_layers": args.get("cips_n_mlp") or 4,
            "noise": True,
            "rgb_every": 2,
            "value_range": "unit",
        }
    ]


def generator_rules(args: Options) -> list[WeightRule]:
    """Where the generator's tensors come from; `sigma_init` of `args` is "recorded" by default."""
    depth = args.get("num_layers", 4)
    rules = [nothing("mapping.w_avg", lambda: torch.zeros(args.get("dim", 384)))]
    for layer in range(args.get("n_mlp", 8)):
        rules += pair(f"mapping.layers.{layer}", f"style.{layer + 1}")
    rules += fourier_rules("synthesis.0.fourier", "lff.ffm.conv")
    for layer in range(depth):
        rules += block_rules(f"synthesis.{1 + layer}", f"layers.{layer}", args)
    rules += sln_rules(f"synthesis.{1 + depth}.norm", "layernorm")
    place, width, size = 2 + depth, args.get("token_width", 8), args["size"]
    if args.get("use_nerf_proj", False):
        return [*rules, *inr_rules(f"synthesis.{place}", "cips", args, (size, size))]
    for layer in range(len(conv_head(args)) - 1):
        side = width * 2 ** (1 + layer // 2)
        rules += style_layer_rules(f"synthesis.{place + layer}", f"convs.{layer}", (side, side), seed=layer)
    return [*rules, *to_rgb_rules(f"synthesis.{place + layer + 1}", "to_rgb")]


def ratio(hidden_dim: int, dim: int) -> float:
    """A hidden layer's width in units of `dim`, such that `MLP`, which rounds down, comes back to it."""
    exact = hidden_dim / dim
    return exact if int(dim * exact) == hidden_dim else (hidden_dim + 0.5) / dim


def generator_ignored(name: str) -> bool:
    """Whether a tensor holds nothing that is used: filters, v, and the copies of weights that were never updated."""
    return re.search(r"\.(blur\.kernel|module\.weight_v|module\.weight|multiplier)$", name) is not None


def discriminator_spec(args: Options) -> Spec:
    """The residual discriminator of these options.

    Args:
        args: size; small32, channel_multiplier (or channels), mlp_linear, d_hidden and d_project where they are not the
            authors'; `projections` false leaves out the heads that only contrastive training uses.
    """
    channels = discriminator_channels(args)
    sizes = discriminator_sizes(args)
    steps: list[dict[str, Any]] = [{"kind": "from-rgb", "dim": channels[sizes[0]], "value_range": "unit"}]
    steps += [{"kind": "residual-conv", "dim": channels[size]} for size in sizes[1:]]
    steps += [{"kind": "minibatch-std"}, {"kind": "conv", "dim": channels[4]}]
    head: dict[str, Any] = {"kind": "linear", "hidden_dim": channels[4] if args.get("mlp_linear", True) else None}
    if args.get("projections", True):
        hidden, out = args.get("d_hidden", 512), args.get("d_project", 128)
        head |= {"kind": "contrad", "projection_hidden_dim": hidden, "projection_dim": out}
    return LayeredDiscriminator.Spec(steps=[*steps, head])


def discriminator_sizes(args: Options) -> list[int]:
    """The sides of the maps, from the image's down to 4."""
    return [args["size"] >> step for step in range(int(math.log2(args["size"])) - 1)]


def discriminator_channels(args: Options) -> dict[int, int]:
    """Channels at each side."""
    if args.get("channels"):
        return {int(size): int(dim) for size, dim in args["channels"].items()}
    if args.get("small32", args["size"] <= 32):
        return {4: 512, 8: 512, 16: 256, 32: 128}
    factor = args.get("channel_multiplier", 2)
    wide = dict.fromkeys((4, 8, 16, 32), 512)
    return wide | {64: 256 * factor, 128: 128 * factor, 256: 64 * factor, 512: 32 * factor, 1024: 16 * factor}


def discriminator_rules(args: Options) -> list[WeightRule]:
    """Where the discriminator's tensors come from."""
    last = len(discriminator_sizes(args))
    rules = conv_rules("steps.0.conv", "layers.0.0", "layers.0.1")
    for block in range(1, last):
        ours, theirs = f"steps.{block}", f"layers.{block}"
        rules += conv_rules(f"{ours}.conv1", f"{theirs}.conv1.0", f"{theirs}.conv1.1")
        rules += conv_rules(f"{ours}.conv2", f"{theirs}.conv2.1", f"{theirs}.conv2.2")
        rules.append(rule(f"{ours}.skip.weight", f"{theirs}.skip.1.weight"))
    rules += conv_rules(f"steps.{last + 1}.conv", "last_conv.0", "last_conv.1")
    head = f"steps.{last + 2}"
    if args.get("mlp_linear", True):
        rules += [*pair(f"{head}.hidden", "linear.l1"), *pair(f"{head}.out", "linear.l2")]
    else:  # a plain map; ours divides by the root of its inputs when it is used
        rules.append(rule(f"{head}.out.weight", "linear.weight", make=lambda weight: weight * weight.shape[1] ** 0.5))
        rules.append(rule(f"{head}.out.bias", "linear.bias"))
    if args.get("projections", True):
        for ours, theirs in {"project1": "projection", "project2": "projection2"}.items():
            rules += [part for layer in (0, 2) for part in pair(f"{head}.{ours}.{layer}", f"{theirs}.{layer}")]
    return rules


def conv_rules(ours: str, weight: str, bias: str) -> list[WeightRule]:
    return [rule(f"{ours}.weight", f"{weight}.weight"), rule(f"{ours}.bias", f"{bias}.bias")]


def discriminator_ignored(name: str) -> bool:
    """Whether a tensor holds a filter, or is of the heads for contrastive training."""
    return name.endswith(".kernel") or name.startswith("projection")
