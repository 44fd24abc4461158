"""StyleNAT's and StyleSwin's networks as lists of steps.

StyleNAT, Walton et al. 2022, https://arxiv.org/abs/2211.05770; StyleSwin, Zhang et al. 2021,
https://arxiv.org/abs/2112.10762. The options of the functions have the names of the reference's constructor arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from assemblies.discriminator import LayeredDiscriminator
from assemblies.generator import LayeredGenerator
from assemblies.models.options import Options, check_power_of_two
from registry import Spec, incompatible

WINDOW_SIZE = 8  # of StyleSwin, in pixels


class Stage(NamedTuple):
    """The two transformer blocks of one resolution."""

    resolution: int
    dim: int
    num_heads: int
    kernel_sizes: tuple[int, ...]
    dilations: tuple[int, ...]

    @property
    def num_partitions(self) -> int:
        return max(len(self.kernel_sizes), len(self.dilations))


def resolutions(size: int, smallest: int) -> list[int]:
    """4, 8 and so on up to the size of the images.

    Raises:
        IncompatibleError: The size is no power of two, or below `smallest`.
    """
    check_power_of_two("size", size, smallest)
    return [1 << exponent for exponent in range(2, size.bit_length())]


def default_channels(channel_multiplier: int = 2) -> dict[int, int]:
    """Channels at each resolution of the generator."""
    channels = dict.fromkeys((4, 8, 16, 32), 512)
    return channels | {64 << step: (256 >> step) * channel_multiplier for step in range(5)}


def stages(args: Options) -> list[Stage]:
    """The stages of a generator, one per resolution.

    Raises:
        IncompatibleError: A list in the options has fewer entries than there are resolutions.
    """
    sizes = resolutions(int(args["size"]), 8)
    table = default_channels(args.get("channel_multiplier", 2))
    channels: Sequence[int] = args.get("in_channels") or [table[size] for size in sizes]
    kernels, dilations = args.get("kernels") or [[7]] * len(sizes), args.get("dilations") or [[1]] * len(sizes)
    for name, entries in {"in_channels": channels, "kernels": kernels, "dilations": dilations}.items():
        if len(entries) < len(sizes):
            raise incompatible(name, f"{len(entries)} entries for the {len(sizes)} resolutions {sizes}")
    return [
        Stage(size, dim, max(dim // 32, int(args.get("min_heads", 4))), as_tuple(kernel), as_tuple(dilation))
        for size, dim, kernel, dilation in zip(sizes, channels, kernels, dilations, strict=False)
    ]


def generator_spec(args: Options) -> Spec:
    """The generator.

    Args:
        args: size and style_dim; optionally n_mlp, lr_mlp, in_channels or channel_multiplier, min_heads, mlp_ratio,
            block_type ("nat" or "swin"), kernels, dilations, qkv_bias, qk_scale, enable_full_resolution.

    Raises:
        IncompatibleError: The reference cannot build this, or its blocks of this type are broken.
    """
    all_stages = stages(args)
    steps: list[dict[str, Any]] = [{"kind": "constant", "resolution": 4, "dim": all_stages[0].dim}]
    feed_forward = {"kind": "mlp", "mlp_ratio": args.get("mlp_ratio", 4)}
    for stage in all_stages:
        if stage.resolution > 4:
            steps += [{"kind": "upsample-linear", "dim": stage.dim}, {"kind": "to-rgb", "num_biases": 2}]
        attention = attention_options(stage, args)
        block = {"kind": "transformer", "norm": "adain", "attention": attention, "feed_forward": feed_forward}
        steps.append(block | {"repeat": 2})
    steps.append({"kind": "to-rgb", "num_biases": 2})
    return LayeredGenerator.Spec(
        z_dim=args["style_dim"],
        mapping={"kind": "mapping", "num_layers": args.get("n_mlp", 8), "lr_multiplier": args.get("lr_mlp", 0.01)},
        synthesis=steps,
        value_range="imagenet",
    )


def attention_options(stage: Stage, args: Options) -> dict[str, Any]:
    """The attention of a stage: over the whole map at 4x4, in neighborhoods or windows above."""
    block_type = args.get("block_type", "nat")
    common = {
        "num_heads": stage.num_heads,
        "qkv_bias": args.get("qkv_bias", True),
        "scale": args.get("qk_scale") or None,
    }
    if block_type == "swin":
        whole_map = stage.resolution <= args.get("enable_full_resolution", 8)
        return common | windows(stage.resolution, stage.resolution if whole_map else WINDOW_SIZE)
    if block_type != "nat":
        raise incompatible(
            "block_type", f"must be 'nat' or 'swin', not {block_type!r} ('transformer' mixes up heads and pixels)"
        )
    if stage.resolution == 4:
        return common | {"kind": "dense", "relative_position_bias": True}
    return common | {"kind": "hydra-na", "kernel_sizes": stage.kernel_sizes, "dilations": stage.dilations}


def windows(side: int, window_size: int) -> dict[str, Any]:
    """StyleSwin's windows on a map with this shorter side: half of the heads shift theirs by half a window."""
    if side <= window_size:
        return {"kind": "shifted-window", "window_size": side, "shift_sizes": (0, 0)}
    return {"kind": "shifted-window", "window_size": window_size, "shift_sizes": (0, window_size // 2)}


def discriminator_channels(args: Options) -> dict[int, int]:
    """Channels at each resolution of the discriminator."""
    channels = args.get("channels") or default_channels(args.get("channel_multiplier", 2))
    return {int(size): int(dim) for size, dim in channels.items()}


def discriminator_spec(args: Options) -> Spec:
    """The wavelet discriminator.

    Args:
        args: size; optionally channels by resolution or channel_multiplier, and sn (spectral norm).
    """
    channels, sizes = discriminator_channels(args), resolutions(int(args["size"]), 16)
    steps: list[dict[str, Any]] = [{"kind": "from-wavelets", "dim": channels[sizes[-1]]}]
    for size in reversed(sizes[:-2]):
        residual = {"kind": "residual-conv", "dim": channels[size], "architecture": "orig"}
        steps += [residual, {"kind": "from-wavelets"}]
    steps += [{"kind": "minibatch-std"}, {"kind": "conv", "dim": channels[4]}]
    spectral_norm = args.get("sn", False)
    steps.append({"kind": "linear", "hidden_dim": channels[4], "num_biases": 2 if spectral_norm else 1})
    return LayeredDiscriminator.Spec(steps=steps, weight_norm="spectral-norm" if spectral_norm else None)


def as_tuple(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)
