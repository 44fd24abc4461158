"""The files of ViTGAN's best-known re-implementation: networks saved whole (Generator.pth, discriminator.pth), or their
state dicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

from torch import Tensor

from assemblies.conversion.importer import MEAN_STYLE, Conversion, Importer, Names, count, with_mean_style
from assemblies.models.stylenat.architecture import mean_style
from assemblies.models.vitgan import reimplementation
from assemblies.models.vitgan.checkpoint import MEANT, SIGMA

OPTIONS = {
    "num_heads": "Heads of the attention; 4 by default.",
    "patch_size": "Side of a patch, in pixels; 4 by default.",
    "out_patch_size": "Side of a patch as it is painted; like patch_size by default.",
    "demodulation": "Whether the readout's modulated weights are normalised; not by default.",
}
DISCRIMINATOR_OPTIONS = {
    "num_heads": "Heads of the attention; 4 by default.",
    "stride_size": "Pixels from one patch to the next; half a patch by default.",
    "sigma_init": "What stands for the weights' largest singular values at the start: expected, current or recorded.",
}
HEADS = "attention has {} heads, which no tensor tells (--set num_heads=...)"


def is_generator(names: Names) -> bool:
    return {"pos_emb", "mlp.fc0.weight", "transformer_encoder.blocks.0.msa.qkv.weight"} <= names


def generator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
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
        "bias": "transformer_encoder.blocks.0.msa.qkv.bias" in tensors,
        "out_features": 3 if last is None else last.shape[1],
        "siren_hidden_layers": sines - 1,
        "weight_modulation": last is not None,
        "affine": [layer for layer in range(sines + 1) if is_affine(tensors, layer, sines)],
    }
    joined = [name for name, value in tensors.items() if value.ndim == 2 and value.shape[1] == tokens * dim > dim]
    if joined:
        options |= {"combine_patch_embeddings": True, "combined": joined[0].removesuffix(".weight")}
        options["out_patch_size"] = size
    options |= {name: args[name] for name in OPTIONS if name in args}
    notes = [HEADS.format(options["num_heads"]), f"images have {size} px, patches {patch} (--set patch_size=...)"]
    layers = range(options["style_mlp_layers"])
    mapping = [f"mlp.fc{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    return Conversion(
        reimplementation.generator_spec(options),
        with_mean_style(reimplementation.generator_rules(options), mapping, mean_of),
        tensors,
        reimplementation.generator_ignored,
        (*notes, MEAN_STYLE),
    )


def mean_of(*tensors: Tensor) -> Tensor:
    """The mean style of a mapping whose activation has no gain."""
    return mean_style(0.01, *map(reimplementation.over_root_two, tensors))


def is_affine(tensors: Mapping[str, Tensor], layer: int, last: int) -> bool:
    named = f"siren.net.{layer}" if layer == last else f"siren.net.{layer}.linear"
    return f"{named}.modulation.weight" in tensors


def is_discriminator(names: Names) -> bool:
    return {"0.cls_token", "0.positions", "1.0.0.fn.1.qkv.module.weight_bar"} <= names


def discriminator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    dim, channels, patch, _ = tensors["0.projection.0.module.weight_bar"].shape
    stride = int(args.get("stride_size", patch // 2))
    size = (isqrt(len(tensors["0.positions"]) - 1) - 1) * stride + patch
    weights = [f"2.{place}.module.weight_bar" for place in range(1, 20, 2)]
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
    notes = [HEADS.format(options["num_heads"])]
    notes.append(f"images have {size} px, patches a stride of {stride} (--set stride_size=...)")
    if not recorded:
        meant = {"expected": "what one power iteration finds on average in new weights", "current": MEANT["current"]}
        told = "; ".join(f"{name}, {meaning}" for name, meaning in meant.items())
        notes.append(SIGMA.format(meant.get(options["sigma_init"], options["sigma_init"]), told))
    return Conversion(
        reimplementation.discriminator_spec(options),
        reimplementation.discriminator_rules(options),
        tensors,
        reimplementation.discriminator_ignored,
        tuple(notes),
        {"resolution": (size, size), "image_channels": channels, "cond_dim": 0},
    )


GENERATOR = Importer("vitgan re-implementation's generator", is_generator, generator, OPTIONS)
DISCRIMINATOR = Importer(
    "vitgan re-implementation's discriminator", is_discriminator, discriminator, DISCRIMINATOR_OPTIONS, ("D",)
)
