"""StyleNAT's networks, and StyleSwin's, as specs, and the names of their tensors.

StyleNAT, Walton et al. 2022, https://arxiv.org/abs/2211.05770; StyleSwin, Zhang et al. 2021,
https://arxiv.org/abs/2112.10762. Options are called here as the reference's constructors call them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from assemblies.conversion.weight_map import WeightRule, rule
from assemblies.discriminator import LayeredDiscriminator
from assemblies.generator import LayeredGenerator
from blocks.common.equalized import leaky_relu
from registry import Spec, incompatible

Options = Mapping[str, Any]
WINDOW = 8  # of StyleSwin, in pixels
COMPUTED = r"relative_position_index|attn_mask[12]|sin_pos_embed\._float_tensor|upsample\.kernel"
COMPUTED_BY_D = r"(dwt|iwt)\.(ll|lh|hl|hh)|downsample\.kernel|conv2\.0\.kernel"


class Stage(NamedTuple):
    """The two transformer blocks of one resolution, as the reference's options describe them."""

    resolution: int
    dim: int
    num_heads: int
    kernel_sizes: tuple[int, ...]
    dilations: tuple[int, ...]

    @property
    def num_partitions(self) -> int:
        return max(len(self.kernel_sizes), len(self.dilations))


def resolutions(size: int, least: int) -> list[int]:
    """4, 8 and so on up to the images' size.

    Raises:
        IncompatibleError: The size is no power of two, or too small.
    """
    if size < least or size & (size - 1):
        raise incompatible("size", f"the reference has powers of two from {least} on, not {size}")
    return [1 << exponent for exponent in range(2, size.bit_length())]


def default_channels(channel_multiplier: int = 2) -> dict[int, int]:
    """Channels at each resolution of the generator."""
    full = dict.fromkeys((4, 8, 16, 32), 512)
    return full | {64 << step: (256 >> step) * channel_multiplier for step in range(5)}


def stages(args: Options) -> list[Stage]:
    """The stages of a generator.

    Raises:
        IncompatibleError: A list in the options is shorter than the stages are many.
    """
    sizes = resolutions(int(args["size"]), 8)
    table = default_channels(args.get("channel_multiplier", 2))
    channels: Sequence[int] = args.get("in_channels") or [table[size] for size in sizes]
    kernels, dilations = args.get("kernels") or [[7]] * len(sizes), args.get("dilations") or [[1]] * len(sizes)
    for name, given in {"in_channels": channels, "kernels": kernels, "dilations": dilations}.items():
        if len(given) < len(sizes):
            raise incompatible(name, f"{len(given)} entries for the {len(sizes)} resolutions {sizes}")
    return [
        Stage(size, dim, max(dim // 32, int(args.get("min_heads", 4))), _tuple(kernel), _tuple(dilation))
        for size, dim, kernel, dilation in zip(sizes, channels, kernels, dilations, strict=False)
    ]


def generator_spec(args: Options) -> Spec:
    """The generator of these options: size, style_dim, n_mlp, lr_mlp, block_type, kernels, dilations and so on.

    Raises:
        IncompatibleError: The reference cannot build this, or its blocks of this type are broken.
    """
    found = stages(args)
    steps: list[dict[str, Any]] = [{"kind": "constant", "resolution": 4, "dim": found[0].dim}]
    feed_forward = {"kind": "mlp", "mlp_ratio": args.get("mlp_ratio", 4)}
    for stage in found:
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
    """The attention of a stage: over the whole map at 4x4, in neighborhoods or in windows elsewhere."""
    block_type = args.get("block_type", "nat")
    common = {
        "num_heads": stage.num_heads,
        "qkv_bias": args.get("qkv_bias", True),
        "scale": args.get("qk_scale") or None,
    }
    if block_type == "swin":
        return common | {"kind": "shifted-window", **windows(stage.resolution, _window_size(stage, args))}
    if block_type != "nat":
        raise incompatible(
            "block_type", f"{block_type!r} is neither nat nor swin (transformer blocks mix up heads and pixels)"
        )
    if stage.resolution == 4:
        return common | {"kind": "dense", "relative_position_bias": True}
    return common | {"kind": "hydra-na", "kernel_sizes": stage.kernel_sizes, "dilations": stage.dilations}


def generator_rules(args: Options) -> list[WeightRule]:
    """Where the generator's tensors come from; `legacy` says that attention is in the two-way layout of old files."""
    rules: list[WeightRule] = []
    for layer in range(int(args.get("n_mlp", 8))):
        rules += _pair(f"mapping.layers.{layer}", f"style.{layer + 1}")
    of_mapping = [name for each in rules for name in each.theirs]
    rules.append(rule("mapping.w_avg", *of_mapping, make=partial(mean_style, args.get("lr_mlp", 0.01))))
    rules.append(rule("synthesis.0.value", "input.input", make=lambda value: value[0]))
    place = 1
    for number, stage in enumerate(stages(args)):
        if number:
            rules += _upsampler(f"synthesis.{place}", f"layers.{number - 1}.upsample")
            rules += _to_rgb(f"synthesis.{place + 1}", f"to_rgbs.{number - 1}")
            place += 2
        for block in (0, 1):
            rules += block_rules(f"synthesis.{place + block}", f"layers.{number}.blocks.{block}", stage, args)
        place += 2
    return rules + _to_rgb(f"synthesis.{place}", f"to_rgbs.{number}")


def block_rules(ours: str, theirs: str, stage: Stage, args: Options) -> Iterator[WeightRule]:
    """Where a transformer block's tensors come from."""
    swin = args.get("block_type", "nat") == "swin"
    for norm in ("norm1", "norm2"):
        yield from _pair(f"{ours}.{norm}.style", f"{theirs}.{norm}.style")
    inside = theirs if swin else f"{theirs}.attn"
    for name in ("qkv", "proj"):
        bias = name == "proj" or args.get("qkv_bias", True)
        yield from _pair(f"{ours}.attn.{name}", f"{inside}.{name}", bias=bias)
    for name in ("mlp.fc1", "mlp.fc2"):
        yield from _pair(f"{ours}.{name}", f"{theirs}.{name}")
    if swin:
        for half in (0, 1):
            table = f"{theirs}.attn.{half}.relative_position_bias_table"
            yield rule(f"{ours}.attn.rpb.{half}", table, make=table_of_swin)
    elif stage.resolution == 4:
        yield rule(f"{ours}.attn.rpb", f"{theirs}.attn.rpb")
    elif args.get("legacy", False):
        yield from legacy_tables(f"{ours}.attn", f"{theirs}.attn", stage.num_partitions)
    else:
        for index in range(stage.num_partitions):
            yield rule(f"{ours}.attn.rpb.{index}", f"{theirs}.attn.rpb.{index}")


def mean_style(lr_multiplier: float, *tensors: Tensor) -> Float[Tensor, " s"]:
    """The mean style, which truncation draws to and the reference does not track, from the mapping's tensors."""
    draws = torch.Generator().manual_seed(0)
    z = torch.randn(10_000, tensors[0].shape[1], generator=draws, device="cpu").to(tensors[0])
    w = F.rms_norm(z, z.shape[1:], eps=1e-8)
    with torch.no_grad():
        for weight, bias in zip(tensors[::2], tensors[1::2], strict=True):
            scale = lr_multiplier / math.sqrt(weight.shape[1])
            w = leaky_relu(F.linear(w, weight * scale, bias * lr_multiplier))
    return w.mean(dim=0)


def generator_ignored(name: str) -> bool:
    """Whether a tensor of the reference's generator holds nothing that was learnt."""
    return re.search(rf"\.({COMPUTED})$", name) is not None


def discriminator_channels(args: Options) -> dict[int, int]:
    """Channels at each resolution of the discriminator."""
    given = args.get("channels") or default_channels(args.get("channel_multiplier", 2))
    return {int(size): int(dim) for size, dim in given.items()}


def discriminator_spec(args: Options) -> Spec:
    """The wavelet discriminator of these options: size, channel_multiplier (or channels) and sn."""
    channels, sizes = discriminator_channels(args), resolutions(int(args["size"]), 16)
    steps: list[dict[str, Any]] = [{"kind": "from-wavelets", "dim": channels[sizes[-1]]}]
    for size in reversed(sizes[:-2]):
        residual = {"kind": "residual-conv", "dim": channels[size], "architecture": "orig"}
        steps += [residual, {"kind": "from-wavelets"}]
    steps += [{"kind": "minibatch-std"}, {"kind": "conv", "dim": channels[4]}]
    normalised = args.get("sn", False)
    steps.append({"kind": "linear", "hidden_dim": channels[4], "num_biases": 2 if normalised else 1})
    return LayeredDiscriminator.Spec(steps=steps, weight_norm="spectral-norm" if normalised else None)


def discriminator_rules(args: Options) -> list[WeightRule]:
    """Where the discriminator's tensors come from."""
    normalised = bool(args.get("sn", False))
    blocks = len(resolutions(int(args["size"]), 16)) - 2
    rules = [
        *_weight("steps.0.conv", "from_rgbs.0.conv.0", normalised),
        rule("steps.0.conv.bias", "from_rgbs.0.conv.1.bias"),
    ]
    for number in range(blocks):
        convs, intake = f"steps.{1 + 2 * number}", f"steps.{2 + 2 * number}"
        rules += _weight(f"{convs}.conv1", f"convs.{number}.conv1.0", normalised)
        rules += _weight(f"{convs}.conv2", f"convs.{number}.conv2.1", normalised)
        rules += _weight(f"{intake}.conv", f"from_rgbs.{number + 1}.conv.0", normalised)
        rules.append(rule(f"{convs}.conv1.bias", f"convs.{number}.conv1.1.bias"))
        rules.append(rule(f"{convs}.conv2.bias", f"convs.{number}.conv2.2.bias"))
        rules.append(rule(f"{intake}.conv.bias", f"from_rgbs.{number + 1}.conv.1.bias"))
    conv, head = f"steps.{2 + 2 * blocks}", f"steps.{3 + 2 * blocks}"
    rules += [*_weight(f"{conv}.conv", "final_conv.0", normalised), rule(f"{conv}.conv.bias", "final_conv.1.bias")]
    last = 2 if normalised else 1
    for ours, theirs in {"hidden": "final_linear.0", "out": f"final_linear.{last}"}.items():
        rules += _weight(f"{head}.{ours}", theirs, normalised)
        rules.append(rule(f"{head}.{ours}.bias", f"{theirs}.bias"))
    if normalised:
        rules.append(rule(f"{head}.bias2", "final_linear.1.bias"))
    return rules


def discriminator_ignored(name: str) -> bool:
    """Whether a tensor of the reference's discriminator holds nothing that was learnt."""
    return re.search(rf"(^|\.)({COMPUTED_BY_D})$", name) is not None


def legacy_tables(ours: str, theirs: str, num_partitions: int) -> list[WeightRule]:
    """The tables of the two-way attention of old files as those of one partition, or of two.

    Raises:
        IncompatibleError: There are more partitions than two.
    """
    halves = (f"{theirs}.rpb0", f"{theirs}.rpb1")
    if num_partitions == 1:
        return [rule(f"{ours}.rpb.0", *halves, make=lambda *tables: torch.cat(tables))]
    if num_partitions == 2:
        return [rule(f"{ours}.rpb.{index}", half) for index, half in enumerate(halves)]
    raise incompatible("dilations", f"the legacy layout has two partitions at most, not {num_partitions}")


def windows(side: int, window_size: int) -> dict[str, Any]:
    """StyleSwin's windows on a map whose shorter side is `side`: half of the heads shifted by half a window."""
    if side <= window_size:
        return {"window_size": side, "shift_sizes": (0, 0)}
    return {"window_size": window_size, "shift_sizes": (0, window_size // 2)}


def table_of_swin(table: Float[Tensor, "s n"]) -> Float[Tensor, "n i j"]:
    """A table over query minus key, [side^2, heads], as one over key minus query, [heads, side, side]."""
    side = round(table.shape[0] ** 0.5)
    return table.mT.unflatten(1, (side, side)).flip(1, 2)


def _upsampler(ours: str, theirs: str) -> list[WeightRule]:
    return [
        *_pair(f"{ours}.norm", f"{theirs}.norm"),
        rule(f"{ours}.linear.weight", f"{theirs}.reduction.weight"),
        rule(f"{ours}.alpha", f"{theirs}.alpha"),
    ]


def _to_rgb(ours: str, theirs: str) -> list[WeightRule]:
    return [
        rule(f"{ours}.weight", f"{theirs}.conv.weight", make=lambda weight: weight.flatten(1)),
        rule(f"{ours}.bias", f"{theirs}.conv.bias"),
        rule(f"{ours}.bias2", f"{theirs}.bias", make=lambda bias: bias.flatten()),
    ]


def _weight(ours: str, theirs: str, normalised: bool) -> list[WeightRule]:
    if not normalised:
        return [rule(f"{ours}.weight", f"{theirs}.weight")]
    inside = f"{ours}.parametrizations.weight"
    vectors = [rule(f"{inside}.0.{name}", f"{theirs}.weight_{name}") for name in ("u", "v")]
    return [rule(f"{inside}.original", f"{theirs}.weight_orig"), *vectors]


def _pair(ours: str, theirs: str, *, bias: bool = True) -> list[WeightRule]:
    return [rule(f"{ours}.{part}", f"{theirs}.{part}") for part in (("weight", "bias") if bias else ("weight",))]


def _window_size(stage: Stage, args: Options) -> int:
    """StyleSwin's windows: the whole map up to a resolution, then 8x8."""
    return stage.resolution if stage.resolution <= args.get("enable_full_resolution", 8) else WINDOW


def _tuple(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)
