"""ViTGAN as its best-known re-implementation has it: specs from constructors' arguments, and where tensors come from.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589; the names are those of teodorToshkov/ViTGAN-pytorch. Improved
spectral norm multiplies there by what one power iteration found in the first forward pass: "expected" for `sigma_init`
is the value that it finds on average in weights as torch initialises them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from assemblies.conversion.weight_map import WeightRule, rule
from assemblies.discriminator import LayeredDiscriminator
from assemblies.generator import LayeredGenerator
from assemblies.models.vitgan.architecture import ISN, ratio
from assemblies.models.vitgan.parts import Options, fourier_rules, isn_rules, nothing, pair
from registry import Spec, incompatible

SLN = {"kind": "sln", "bias": False, "affine": True, "eps": 1e-5}
HEAD_DIMS = (4098, 1024, 512)


def generator_spec(args: Options) -> Spec:
    """The generator of these options; the networks that never reach its image are left out.

    Args:
        args: image_size, patch_size, hidden_size, depth, num_heads, latent_dim, style_mlp_layers, bias; of the readout:
            out_patch_size, out_features, siren_hidden_layers, weight_modulation, demodulation,
            combine_patch_embeddings.
    """
    dim, side = args["hidden_size"], args["image_size"] // args["patch_size"]
    attention = {
        "kind": "dense",
        "num_heads": args.get("num_heads", 4),
        "qkv_bias": args.get("bias", True),
        "scale": 1.0,
        "gain": dim**-0.5,
    }
    block = {
        "kind": "transformer",
        "attention": attention,
        "norm": SLN,
        "shared_norm": True,
        "feed_forward": "identity",
    }
    whole = bool(args.get("combine_patch_embeddings", False))
    out = args.get("out_patch_size", args["patch_size"])
    if whole and out % side:
        raise incompatible("out_patch_size", f"an image of {out} pixels does not divide into {side} patches a side")
    return LayeredGenerator.Spec(
        z_dim=args["latent_dim"],
        w_dim=dim,
        mapping={"kind": "mapping", "num_layers": args["style_mlp_layers"]},
        synthesis=[
            {"kind": "learned-tokens", "dim": dim, "resolution": side, "coordinates": "free"},
            block | {"repeat": args["depth"]},
            {"kind": "norm", "norm": SLN},
            {
                "kind": "siren-patches",
                "patch_size": out // side if whole else out,
                "hidden_dims": [dim] * (1 + args.get("siren_hidden_layers", 1)),
                "modulation": siren_modulation(args),
                "whole": whole,
                "scrambled": args.get("weight_modulation", True),
            },
        ],
        image_channels=args.get("out_features", 3),
        value_range="unit",
    )


def siren_modulation(args: Options) -> str:
    if not args.get("weight_modulation", True):
        return "add"
    return "demodulate" if args.get("demodulation", False) else "modulate"


def generator_rules(args: Options) -> list[WeightRule]:
    """Where the generator's tensors come from."""
    dim, depth, side = args["hidden_size"], args["depth"], args["image_size"] // args["patch_size"]
    rules = [nothing("mapping.w_avg", lambda: torch.zeros(dim))]
    for layer in range(args["style_mlp_layers"]):
        for part in ("weight", "bias"):  # our activation multiplies by sqrt(2), theirs does not
            rules.append(rule(f"mapping.layers.{layer}.{part}", f"mlp.fc{layer}.{part}", make=over_root_two))
    rules.append(rule("synthesis.0.angles", "pos_emb", make=lambda angles: angles.unflatten(0, (side, side))))
    for layer in range(depth):
        ours, theirs = f"synthesis.{1 + layer}", f"transformer_encoder.blocks.{layer}"
        rules += sln_rules(f"{ours}.norm1", f"{theirs}.sln")
        rules += attention_rules(f"{ours}.attn", f"{theirs}.msa", args, normalised=False)
    rules += sln_rules(f"synthesis.{1 + depth}.norm", "sln")
    readout = f"synthesis.{2 + depth}"
    if args.get("combine_patch_embeddings", False):
        joined = args.get("combined", "combined")
        rules += pair(f"{readout}.join", joined)
    rules += fourier_rules(f"{readout}.fourier", "lff.ffm.conv")
    return [*rules, *siren_rules(f"{readout}.network", "siren.", args)]


def siren_rules(ours: str, theirs: str, args: Options) -> Iterator[WeightRule]:
    """Where the tensors of the network of sines come from; `affine` of `args` says that styles have another width."""
    last = 1 + args.get("siren_hidden_layers", 1)
    for layer in range(last + 1):
        named = f"{theirs}net.{layer}" if layer == last else f"{theirs}net.{layer}.linear"
        if args.get("weight_modulation", True):
            yield rule(f"{ours}.layers.{layer}.weight", f"{named}.weight", make=lambda weight: weight[0].flatten(1))
            if layer in args.get("affine", ()):
                yield rule(f"{ours}.layers.{layer}.affine.weight", f"{named}.modulation.weight")
        else:
            yield rule(f"{ours}.layers.{layer}.weight", f"{named}.linear.weight")
            yield rule(f"{ours}.layers.{layer}.affine.weight", f"{named}.style.weight")


def sln_rules(ours: str, theirs: str) -> Iterator[WeightRule]:
    yield from pair(f"{ours}.norm", f"{theirs}.ln")
    for name in ("gamma", "beta"):
        yield rule(f"{ours}.{name}.weight", f"{theirs}.{name}.weight")


def attention_rules(ours: str, theirs: str, args: Options, *, normalised: bool) -> Iterator[WeightRule]:
    """Where an attention's tensors come from; the rows of qkv are in order of head, channel and then role there."""
    heads = args.get("num_heads", 4)
    for mine, name in {"qkv": "qkv", "proj": "projection"}.items():
        plain = pair(f"{ours}.{mine}", f"{theirs}.{name}", bias=name != "qkv" or args.get("bias", True))
        for part in linear_rules(f"{ours}.{mine}", f"{theirs}.{name}", args) if normalised else plain:
            rows = name == "qkv" and not part.ours.endswith("sigma_init")
            yield part._replace(make=lambda rows: role_first(rows, heads)) if rows else part


def role_first(rows: Tensor, num_heads: int) -> Tensor:
    """Rows in order of role, head and channel."""
    return rows.unflatten(0, (num_heads, -1, 3)).movedim(2, 0).flatten(0, 2)


def over_root_two(tensor: Tensor) -> Tensor:
    return tensor / math.sqrt(2)


def generator_ignored(name: str) -> bool:
    """Whether a tensor is of a feed-forward network, whose results are thrown away there."""
    return ".feed_forward." in name


def discriminator_spec(args: Options) -> Spec:
    """The discriminator of these options.

    Args:
        args: patch_size (of the squares seen), stride_size, emb_size, depth, num_heads, forward_expansion, head_sizes.
    """
    dim = args["emb_size"]
    attention = l2_options(args)
    block = {
        "kind": "transformer",
        "attention": attention,
        "norm": {"kind": "layer-norm", "eps": 1e-5},
        "feed_forward": {"kind": "mlp", "mlp_ratio": ratio(args.get("forward_expansion", 4) * dim, dim)},
        "repeat": args["depth"],
    }
    steps: list[dict[str, Any]] = [
        {
            "kind": "overlapping-patches",
            "dim": dim,
            "patch_size": args["stride_size"],
            "window_size": args["patch_size"],
            "padding": "none",
            "position": "sine",
            "class_token": True,
        },
        block,
        {
            "kind": "class-token",
            "hidden_dim": tuple(args.get("head_sizes") or HEAD_DIMS),
            "gelu_at_the_end": True,
            "eps": 1e-5,
        },
    ]
    return LayeredDiscriminator.Spec(steps=steps, weight_norm=ISN)


def l2_options(args: Options) -> dict[str, Any]:
    """Distances as they are, to keys of their own, attention falling with nearness and scaled after the softmax."""
    options = {"num_heads": args.get("num_heads", 4), "qkv_bias": True, "scale": 1.0, "gain": args["emb_size"] ** -0.5}
    if not args.get("discriminator", True):
        return {"kind": "dense", **options}
    return {"kind": "l2", "tied": False, "squared": False, "sign": 1, **options}


def discriminator_rules(args: Options) -> list[WeightRule]:
    """Where the discriminator's tensors come from; `sigma_init` of `args` is "recorded" by default."""
    depth = args["depth"]
    rules = list(patch_rules("steps.0", "0", args))
    for layer in range(depth):
        ours, theirs = f"steps.{1 + layer}", f"1.{layer}"
        rules += [*pair(f"{ours}.norm1", f"{theirs}.0.fn.0"), *pair(f"{ours}.norm2", f"{theirs}.1.fn.0")]
        rules += attention_rules(f"{ours}.attn", f"{theirs}.0.fn.1", args, normalised=True)
        for mine, name in {"fc1": "0", "fc2": "3"}.items():
            rules += linear_rules(f"{ours}.mlp.{mine}", f"{theirs}.1.fn.1.{name}", args)
    head = f"steps.{1 + depth}"
    rules += pair(f"{head}.norm", "2.0")
    layers = len(args.get("head_sizes") or HEAD_DIMS)
    for layer in range(layers + 1):
        named = f"{head}.out" if layer == layers else f"{head}.hidden.{2 * layer}"
        rules += linear_rules(named, f"2.{1 + 2 * layer}", args)
    return rules


def patch_rules(ours: str, theirs: str, args: Options) -> Iterator[WeightRule]:
    """Where the tensors of the patches' tokens come from."""
    yield rule(f"{ours}.class_token", f"{theirs}.cls_token", make=torch.flatten)
    yield rule(f"{ours}.pos_embed", f"{theirs}.positions")
    yield from linear_rules(f"{ours}.proj", f"{theirs}.projection.0", args)


def linear_rules(ours: str, theirs: str, args: Options) -> Iterator[WeightRule]:
    """A linear map or convolution below improved spectral norm."""
    yield rule(f"{ours}.bias", f"{theirs}.module.bias")
    yield from isn_rules(ours, theirs, f"{theirs}.w_init_sigma", args, of_uniform)


def of_uniform(weight: Tensor) -> Tensor:
    """What one power iteration finds, on average, in weights of a linear map or convolution as torch draws them."""
    rows, columns = weight.flatten(1).shape
    return weight.new_tensor(math.sqrt((rows + columns) / (3 * columns)))


def discriminator_ignored(name: str) -> bool:
    """Whether a tensor is never read, or an outdated copy of a weight."""
    return re.search(r"\.(module\.weight_v|module\.weight|w_init_sigma)$", name) is not None
