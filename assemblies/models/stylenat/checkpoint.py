"""StyleNAT's checkpoints, in the old and the new layout, and StyleSwin's: recognition and weight rules.

The options follow from the tensors' shapes, except the dilations: those are in the training configuration only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from assemblies.conversion.importer import Conversion, Importer, Names, count, gather, require
from assemblies.conversion.weight_map import WeightRule, rule
from assemblies.models.options import Options
from assemblies.models.stylenat.architecture import (
    Stage,
    discriminator_spec,
    generator_spec,
    resolutions,
    stages,
)
from assemblies.models.weight_rules import (
    MEAN_STYLE_NOTE,
    flatten_kernel,
    layer_tensors,
    mean_style,
    mean_style_rule,
    weight_and_bias,
)
from registry import incompatible

OPTIONS = {
    "dilations": "Dilations of each resolution's partitions from 4 px on, such as [[1], [1], [1, 2]]; 4 px is ignored.",
    "kernels": "Kernel sizes of each resolution's partitions, such as [[7], [7], [7]].",
    "min_heads": "Smallest number of heads at a resolution.",
    "lr_mlp": "Learning-rate multiplier of the mapping; 0.01 by default.",
    "enable_full_resolution": "StyleSwin's windows are the whole map up to this resolution; 8 by default.",
    "qk_scale": "Factor of the attention logits instead of 1/sqrt(head size).",
}
# buffers that are computed, not learned
GENERATOR_BUFFERS = r"\.(relative_position_index|attn_mask[12]|sin_pos_embed\._float_tensor|upsample\.kernel)$"
DISCRIMINATOR_BUFFERS = r"(^|\.)((dwt|iwt)\.(ll|lh|hl|hh)|downsample\.kernel|conv2\.0\.kernel)$"


def is_generator(names: Names) -> bool:
    return {"input.input", "to_rgbs.0.conv.weight", "layers.0.blocks.0.norm1.style.weight"} <= names


def convert_generator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    options = gather(args, OPTIONS) | options_from_shapes(tensors)
    options |= {name: args[name] for name in OPTIONS if name in args}  # set by the user, at the top level
    if options["block_type"] == "nat":
        require(options, "dilations", "no tensor depends on it; its training configuration or its paper does")
    return Conversion(
        generator_spec(options),
        generator_rules(options),
        tensors,
        generator_ignored,
        ("images are normalised by ImageNet's mean and deviation, as in training", MEAN_STYLE_NOTE),
    )


def options_from_shapes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor arguments that follow from the tensors' names and shapes."""
    blocks = [f"layers.{i}.blocks.0" for i in range(count(tensors, "layers.{}.blocks.0.norm1.style.weight"))]
    dims = [len(tensors[f"{block}.norm1.style.weight"]) // 2 for block in blocks]
    swin = any(name.endswith("relative_position_bias_table") for name in tensors)
    options: dict[str, Any] = {
        "size": 4 << (len(blocks) - 1),
        "style_dim": tensors["layers.0.blocks.0.norm1.style.weight"].shape[1],
        "n_mlp": sum(1 for name in tensors if name.startswith("style.") and name.endswith(".weight")),
        "in_channels": dims,
        "mlp_ratio": len(tensors[f"{blocks[0]}.mlp.fc1.weight"]) / dims[0],
        "qkv_bias": f"{blocks[0]}.{'' if swin else 'attn.'}qkv.bias" in tensors,
        "block_type": "swin" if swin else "nat",
        "legacy": any(name.endswith(".attn.rpb0") for name in tensors),
    }
    tables = [position_tables(tensors, block) for block in blocks]
    if not swin:
        options["kernels"] = [[(table.shape[-1] + 1) // 2 for table in of_block] for of_block in tables]
    heads = [sum(table.shape[-1] if swin else len(table) for table in of_block) for of_block in tables]
    above_rule = [number for number, dim in zip(heads, dims, strict=True) if number > dim // 32]
    return options | {"min_heads": max(above_rule, default=1)}


def position_tables(tensors: Mapping[str, Tensor], block: str) -> list[Tensor]:
    """The tables of relative positions of a block's attention, one for each partition of the heads."""
    if f"{block}.attn.rpb" in tensors:
        return [tensors[f"{block}.attn.rpb"]]
    for pattern in (".attn.rpb{}", ".attn.rpb.{}", ".attn.{}.relative_position_bias_table"):
        if number := count(tensors, block + pattern):
            return [tensors[block + pattern.format(i)] for i in range(number)]
    return []


def generator_rules(args: Options) -> list[WeightRule]:
    """The generator's weight rules; the option `legacy` selects the two-way attention of old files."""
    num_layers, lr_multiplier = int(args.get("n_mlp", 8)), args.get("lr_mlp", 0.01)
    rules: list[WeightRule] = []
    for layer in range(num_layers):
        rules += weight_and_bias(f"mapping.layers.{layer}", f"style.{layer + 1}")
    mapping = layer_tensors("style.{}", range(1, num_layers + 1))
    rules.append(mean_style_rule(mapping, partial(mean_style, lr_multiplier)))
    rules.append(rule("synthesis.0.value", "input.input", convert=lambda value: value[0]))
    step = 1
    for number, stage in enumerate(stages(args)):
        if number:
            rules += upsample_rules(f"synthesis.{step}", f"layers.{number - 1}.upsample")
            rules += to_rgb_rules(f"synthesis.{step + 1}", f"to_rgbs.{number - 1}")
            step += 2
        for block in (0, 1):
            rules += block_rules(f"synthesis.{step + block}", f"layers.{number}.blocks.{block}", stage, args)
        step += 2
    return rules + to_rgb_rules(f"synthesis.{step}", f"to_rgbs.{number}")


def block_rules(target: str, source: str, stage: Stage, args: Options) -> Iterator[WeightRule]:
    """A transformer block."""
    swin = args.get("block_type", "nat") == "swin"
    for norm in ("norm1", "norm2"):
        yield from weight_and_bias(f"{target}.{norm}.style", f"{source}.{norm}.style")
    attention = source if swin else f"{source}.attn"
    for name in ("qkv", "proj"):
        bias = name == "proj" or args.get("qkv_bias", True)
        yield from weight_and_bias(f"{target}.attn.{name}", f"{attention}.{name}", bias=bias)
    for name in ("mlp.fc1", "mlp.fc2"):
        yield from weight_and_bias(f"{target}.{name}", f"{source}.{name}")
    if swin:
        for half in (0, 1):
            table = f"{source}.attn.{half}.relative_position_bias_table"
            yield rule(f"{target}.attn.rpb.{half}", table, convert=convert_swin_table)
    elif stage.resolution == 4:
        yield rule(f"{target}.attn.rpb", f"{source}.attn.rpb")
    elif args.get("legacy", False):
        yield from legacy_tables(f"{target}.attn", f"{source}.attn", stage.num_partitions)
    else:
        for index in range(stage.num_partitions):
            yield rule(f"{target}.attn.rpb.{index}", f"{source}.attn.rpb.{index}")


def legacy_tables(target: str, source: str, num_partitions: int) -> list[WeightRule]:
    """The two tables of an old file's two-way attention as those of one partition, or of two.

    Raises:
        IncompatibleError: There are more than two partitions.
    """
    halves = (f"{source}.rpb0", f"{source}.rpb1")
    if num_partitions == 1:
        return [rule(f"{target}.rpb.0", *halves, convert=lambda *tables: torch.cat(tables))]
    if num_partitions == 2:
        return [rule(f"{target}.rpb.{index}", half) for index, half in enumerate(halves)]
    raise incompatible("dilations", f"the legacy layout has at most two partitions, not {num_partitions}")


def convert_swin_table(table: Float[Tensor, "s n"]) -> Float[Tensor, "n i j"]:
    """A table over query minus key, [side^2, heads], as one over key minus query, [heads, side, side]."""
    side = round(table.shape[0] ** 0.5)
    return table.mT.unflatten(1, (side, side)).flip(1, 2)


def upsample_rules(target: str, source: str) -> list[WeightRule]:
    return [
        *weight_and_bias(f"{target}.norm", f"{source}.norm"),
        rule(f"{target}.linear.weight", f"{source}.reduction.weight"),
        rule(f"{target}.alpha", f"{source}.alpha"),
    ]


def to_rgb_rules(target: str, source: str) -> list[WeightRule]:
    return [
        rule(f"{target}.weight", f"{source}.conv.weight", convert=flatten_kernel),
        rule(f"{target}.bias", f"{source}.conv.bias"),
        rule(f"{target}.bias2", f"{source}.bias", convert=torch.flatten),
    ]


def generator_ignored(name: str) -> bool:
    """Whether a tensor of the reference's generator is a computed buffer."""
    return re.search(GENERATOR_BUFFERS, name) is not None


def is_discriminator(names: Names) -> bool:
    return "dwt.ll" in names and bool({"from_rgbs.0.conv.0.weight", "from_rgbs.0.conv.0.weight_orig"} & names)


def convert_discriminator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    weight = "weight_orig" if "from_rgbs.0.conv.0.weight_orig" in tensors else "weight"
    from_rgb = f"from_rgbs.{{}}.conv.0.{weight}"
    dims = [len(tensors[from_rgb.format(i)]) for i in range(count(tensors, from_rgb))]
    size = 4 << len(dims)
    channels = {size: dims[0]} | {size >> (i + 1): dim for i, dim in enumerate(dims) if i}
    options = {"size": size, "channels": channels, "sn": weight == "weight_orig"}
    return Conversion(
        discriminator_spec(options),
        discriminator_rules(options),
        tensors,
        discriminator_ignored,
        context={"resolution": (size, size), "image_channels": 3, "cond_dim": 0},
    )


def discriminator_rules(args: Options) -> list[WeightRule]:
    """The discriminator's weight rules."""
    spectral_norm = bool(args.get("sn", False))
    blocks = len(resolutions(int(args["size"]), 16)) - 2
    rules = conv_rules("steps.0.conv", "from_rgbs.0.conv", 0, spectral_norm)
    for number in range(blocks):
        block, from_rgb = f"steps.{1 + 2 * number}", f"steps.{2 + 2 * number}"
        rules += conv_rules(f"{block}.conv1", f"convs.{number}.conv1", 0, spectral_norm)
        rules += conv_rules(f"{block}.conv2", f"convs.{number}.conv2", 1, spectral_norm)  # 0 is the blur
        rules += conv_rules(f"{from_rgb}.conv", f"from_rgbs.{number + 1}.conv", 0, spectral_norm)
    conv, head = f"steps.{2 + 2 * blocks}", f"steps.{3 + 2 * blocks}"
    rules += conv_rules(f"{conv}.conv", "final_conv", 0, spectral_norm)
    last = 2 if spectral_norm else 1
    for target, source in {"hidden": "final_linear.0", "out": f"final_linear.{last}"}.items():
        rules += weight_rules(f"{head}.{target}", source, spectral_norm)
        rules.append(rule(f"{head}.{target}.bias", f"{source}.bias"))
    if spectral_norm:
        rules.append(rule(f"{head}.bias2", "final_linear.1.bias"))
    return rules


def conv_rules(target: str, source: str, index: int, spectral_norm: bool) -> list[WeightRule]:
    """A convolution at an index of a sequence, whose bias is in the activation after it."""
    weights = weight_rules(target, f"{source}.{index}", spectral_norm)
    return [*weights, rule(f"{target}.bias", f"{source}.{index + 1}.bias")]


def weight_rules(target: str, source: str, spectral_norm: bool) -> list[WeightRule]:
    if not spectral_norm:
        return [rule(f"{target}.weight", f"{source}.weight")]
    parametrization = f"{target}.parametrizations.weight"
    vectors = [rule(f"{parametrization}.0.{name}", f"{source}.weight_{name}") for name in ("u", "v")]
    return [rule(f"{parametrization}.original", f"{source}.weight_orig"), *vectors]


def discriminator_ignored(name: str) -> bool:
    """Whether a tensor of the reference's discriminator is a computed buffer."""
    return re.search(DISCRIMINATOR_BUFFERS, name) is not None


IMPORTERS = (
    Importer("stylenat generator", is_generator, convert_generator, OPTIONS),
    Importer("stylenat discriminator", is_discriminator, convert_discriminator, {}, ("D",)),
)
