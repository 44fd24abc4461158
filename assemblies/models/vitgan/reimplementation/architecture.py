"""The networks of ViTGAN's best-known re-implementation as lists of steps.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589; the options of the functions have the names of
teodorToshkov/ViTGAN-pytorch.
"""

from __future__ import annotations

from typing import Any

from assemblies.discriminator import LayeredDiscriminator
from assemblies.generator import LayeredGenerator
from assemblies.models.options import Options
from assemblies.models.vitgan.architecture import ISN, mlp_ratio
from registry import Spec, incompatible

SLN = {"kind": "sln", "bias": False, "affine": True, "eps": 1e-5}
HEAD_DIMS = (4098, 1024, 512)


def generator_spec(args: Options) -> Spec:
    """The generator, without the feed-forward networks, whose results the re-implementation discards.

    Args:
        args: image_size, patch_size, hidden_size, depth, latent_dim, style_mlp_layers; optionally num_heads; of the
            image head: out_patch_size, out_features, siren_hidden_layers, weight_modulation, demodulation,
            combine_patch_embeddings and bias (of the combined embedding).
    """
    dim, side = args["hidden_size"], args["image_size"] // args["patch_size"]
    attention = {
        "kind": "dense",
        "num_heads": args.get("num_heads", 4),
        "qkv_bias": True,
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
        raise incompatible("out_patch_size", f"an image of {out} pixels does not divide into {side} patches per side")
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
                "bias": args.get("bias", True),
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


def discriminator_spec(args: Options) -> Spec:
    """The discriminator.

    Args:
        args: patch_size (of the overlapping squares), stride_size, emb_size, depth; optionally num_heads,
            forward_expansion, head_sizes.
    """
    dim = args["emb_size"]
    attention = attention_options(args)
    block = {
        "kind": "transformer",
        "attention": attention,
        "norm": {"kind": "layer-norm", "eps": 1e-5},
        "feed_forward": {"kind": "mlp", "mlp_ratio": mlp_ratio(args.get("forward_expansion", 4) * dim, dim)},
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


def attention_options(args: Options) -> dict[str, Any]:
    """The attention of these arguments; with `discriminator` false, dot-product attention.

    The discriminator's is the softmax of plus the distances to keys of their own, scaled after the softmax.
    """
    options = {"num_heads": args.get("num_heads", 4), "qkv_bias": True, "scale": 1.0, "gain": args["emb_size"] ** -0.5}
    if not args.get("discriminator", True):
        return {"kind": "dense", **options}
    return {"kind": "l2", "tied": False, "squared": False, "sign": 1, **options}
