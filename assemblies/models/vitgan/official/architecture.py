"""The networks of the authors' code as lists of steps.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589; the options of the functions have the names of the authors'
code (mlpc-ucsd/ViTGAN).
"""

from __future__ import annotations

import math
from typing import Any

from assemblies.discriminator import LayeredDiscriminator
from assemblies.generator import LayeredGenerator
from assemblies.models.options import Options
from assemblies.models.vitgan.architecture import ISN, mlp_ratio
from registry import Spec, incompatible

SLN = {"kind": "sln", "gain_init": 1.0, "eps": 1e-3}


def generator_spec(args: Options) -> Spec:
    """The generator.

    Args:
        args: size; optionally token_width, num_layers, dim, heads, dim_head, mlp_dim, n_mlp, l2_attn, spectral_norm;
            use_nerf_proj with cips_channels and cips_n_mlp, or cnn_channels. `qkv_bias` false leaves out the bias of
            queries, keys and values, which the authors' code adds although its `use_bias` is false.
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
    """The transformer block: its shortcuts carry the normalised value, and its attention is what they call L2."""
    dim = args.get("dim", 384)
    num_heads, head_dim = attention_heads(args)
    common = {
        "num_heads": num_heads,
        "head_dim": head_dim,
        "qkv_bias": args.get("qkv_bias", True),
        "temperature": True,
        "equalized": True,
        "out_proj": has_output_projection(args),
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
            "mlp_ratio": mlp_ratio(args.get("mlp_dim", 4 * dim), dim),
            "activation": "silu",
            "equalized": True,
        },
        "residual": "normalised",
        "weight_norm": ISN if args.get("spectral_norm", True) else None,
    }


def attention_heads(args: Options) -> tuple[int, int]:
    """The number of heads, and the channels of each."""
    num_heads = args.get("heads", 6)
    return num_heads, args.get("dim_head") or args.get("dim", 384) // num_heads


def has_output_projection(args: Options) -> bool:
    """Whether a linear layer follows the heads; it does not follow a single head that has all the channels."""
    return attention_heads(args) != (1, args.get("dim", 384))


def conv_head(args: Options) -> list[dict[str, Any]]:
    """Pairs of modulated convolutions, each doubling the resolution, up to the image's size; images are in [0,1]."""
    width, size = args.get("token_width", 8), args["size"]
    sizes = [width << doubled for doubled in range(1, size.bit_length()) if width << doubled <= size]
    if not sizes or sizes[-1] != size:
        raise incompatible("size", f"doubling {width} tokens never gives {size} pixels; use the INR head")
    channels = {int(side): dim for side, dim in (args.get("cnn_channels") or conv_channels(args)).items()}
    steps = [{"kind": "modulated-conv", "dim": channels[side], "up": up} for side in sizes for up in (2, 1)]
    return [*steps, {"kind": "to-rgb", "modulation": "modulate"}]


def conv_channels(args: Options) -> dict[int, int]:
    """Channels of the convolutional head at each size."""
    dim, factor = args.get("dim", 384), args.get("channel_multiplier", 2)
    small = {8: dim, 16: dim, 32: dim}
    return small | {side: max(1, dim * 32 * factor // side) for side in (64, 128, 256, 512, 1024)}


def inr_head(args: Options) -> list[dict[str, Any]]:
    """An implicit network per token."""
    first, *others = args.get("cips_channels") or (512, 512)
    size, width = args["size"], args.get("token_width", 8)
    if size % width:
        raise incompatible("size", f"{size} pixels do not divide into {width} patches")
    return [
        {
            "kind": "inr-patches",
            "patch_size": size // width,
            "hidden_dims": [first, *(dim for dim in others for _ in range(2))],
            "mapping_layers": args.get("cips_n_mlp") or 4,
            "noise": True,
            "rgb_every": 2,
            "value_range": "unit",
        }
    ]


def discriminator_spec(args: Options) -> Spec:
    """The residual discriminator.

    Args:
        args: size; optionally small32, channel_multiplier (or channels), mlp_linear, d_hidden and d_project.
            `projections` false leaves out the heads that only contrastive training uses.
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
    small = dict.fromkeys((4, 8, 16, 32), 512)
    return small | {64: 256 * factor, 128: 128 * factor, 256: 64 * factor, 512: 32 * factor, 1024: 16 * factor}
