"""StyleNAT's checkpoints, old and new, and StyleSwin's: what their tensors and their configuration tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from assemblies.conversion.importer import MEAN_STYLE, Conversion, Importer, Names, count, gather, require
from assemblies.models.stylenat import architecture as stylenat

OPTIONS = {
    "dilations": "Steps of each resolution's partitions from 4 px on, such as [[1], [1], [1, 2]]; 4 px is not read.",
    "kernels": "Windows of each resolution's partitions, such as [[7], [7], [7]].",
    "min_heads": "Least heads of a resolution.",
    "lr_mlp": "Trainable rate multiplier of the mapping; 0.01 by default.",
    "enable_full_resolution": "Up to this resolution StyleSwin's windows are the whole map; 8 by default.",
    "qk_scale": "Factor of the logits instead of 1/sqrt(head size).",
}


def is_generator(names: Names) -> bool:
    return {"input.input", "to_rgbs.0.conv.weight", "layers.0.blocks.0.norm1.style.weight"} <= names


def generator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    options = gather(args, OPTIONS) | told_by_tensors(tensors)
    options |= {name: args[name] for name in OPTIONS if name in args}  # at the top: the user's own words
    if options["block_type"] == "nat":
        require(options, "dilations", "no tensor depends on it; its training configuration or its paper does")
    return Conversion(
        stylenat.generator_spec(options),
        stylenat.generator_rules(options),
        tensors,
        stylenat.generator_ignored,
        ("images are normalised by ImageNet's mean and deviation, as in training", MEAN_STYLE),
    )


def told_by_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that follow from the tensors' names and shapes."""
    stages = [f"layers.{i}.blocks.0" for i in range(count(tensors, "layers.{}.blocks.0.norm1.style.weight"))]
    dims = [len(tensors[f"{stage}.norm1.style.weight"]) // 2 for stage in stages]
    layers = sum(1 for name in tensors if name.startswith("style.") and name.endswith(".weight"))
    swin = any(name.endswith("relative_position_bias_table") for name in tensors)
    told: dict[str, Any] = {
        "size": 4 << (len(stages) - 1),
        "style_dim": tensors["layers.0.blocks.0.norm1.style.weight"].shape[1],
        "n_mlp": layers,
        "in_channels": dims,
        "mlp_ratio": len(tensors[f"{stages[0]}.mlp.fc1.weight"]) / dims[0],
        "qkv_bias": f"{stages[0]}.{'' if swin else 'attn.'}qkv.bias" in tensors,
        "block_type": "swin" if swin else "nat",
        "legacy": any(name.endswith(".attn.rpb0") for name in tensors),
    }
    tables = [tables_of(tensors, stage) for stage in stages]
    if not swin:
        told["kernels"] = [[(table.shape[-1] + 1) // 2 for table in found] for found in tables]
    heads = [sum(table.shape[-1] if swin else len(table) for table in found) for found in tables]
    more = [number for number, dim in zip(heads, dims, strict=True) if number > dim // 32]
    return told | {"min_heads": max(more, default=1)}


def tables_of(tensors: Mapping[str, Tensor], stage: str) -> list[Tensor]:
    """The tables of relative positions of a block's attention, one for each partition of the heads."""
    if f"{stage}.attn.rpb" in tensors:
        return [tensors[f"{stage}.attn.rpb"]]
    for pattern in (".attn.rpb{}", ".attn.rpb.{}", ".attn.{}.relative_position_bias_table"):
        if number := count(tensors, stage + pattern):
            return [tensors[stage + pattern.format(i)] for i in range(number)]
    return []


def is_discriminator(names: Names) -> bool:
    return "dwt.ll" in names and bool({"from_rgbs.0.conv.0.weight", "from_rgbs.0.conv.0.weight_orig"} & names)


def discriminator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    weight = "weight_orig" if "from_rgbs.0.conv.0.weight_orig" in tensors else "weight"
    intakes = f"from_rgbs.{{}}.conv.0.{weight}"
    dims = [len(tensors[intakes.format(i)]) for i in range(count(tensors, intakes))]
    size = 4 << len(dims)
    channels = {size: dims[0]} | {size >> (i + 1): dim for i, dim in enumerate(dims) if i}
    options = {"size": size, "channels": channels, "sn": weight == "weight_orig"}
    return Conversion(
        stylenat.discriminator_spec(options),
        stylenat.discriminator_rules(options),
        tensors,
        stylenat.discriminator_ignored,
        context={"resolution": (size, size), "image_channels": 3, "cond_dim": 0},
    )


GENERATOR = Importer("stylenat generator", is_generator, generator, OPTIONS)
DISCRIMINATOR = Importer("stylenat discriminator", is_discriminator, discriminator, {}, ("D",))
