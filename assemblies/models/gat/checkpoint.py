"""GAT's checkpoints: recognition, options and weight rules.

The files are state dicts `generator`, `discriminator` and `ema` beside the arguments of the training script, which name
the model's size. All sizes but the number of heads follow from the tensors' shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from assemblies.conversion.importer import Conversion, Importer, Names, count
from assemblies.conversion.weight_map import WeightRule, rule
from assemblies.models.gat.architecture import (
    DECODER,
    NUM_LEVELS,
    discriminator_context,
    discriminator_spec,
    discriminator_steps,
    generator_spec,
    generator_steps,
)
from assemblies.models.options import Options
from assemblies.models.weight_rules import weight_and_bias

LATENT_CHANNELS, LEGACY_BLOCKS = 4, 8
DECODER_NOTE = (
    "the generator makes latents of Stable Diffusion's autoencoder; pictures need its decoder, which is not in the "
    f"file: {DECODER['weights']}, from a folder or by --allow-external. Without pictures: --set decoder=null"
)
IGNORED = ("x_embedder.", "feat_rope.")  # the generator multiplies its input by 0, and rotations are computed


def is_generator(names: Names) -> bool:
    return {"w_avg", "y_embedder.embedding_table.weight", "final_layers.0.linear.weight"} <= names


def is_discriminator(names: Names) -> bool:
    return {"cls_token", "y_embedder.embedding_table.weight", "final_layer.1.weight"} <= names


def convert_generator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    tensors = renamed(tensors)
    num_classes, latent_size = tensors["y_embedder.embedding_table.weight"].shape
    patch = tensors["final_layers.0.linear.weight"].shape[0]
    options = sizes(tensors) | {"num_classes": num_classes, "latent_size": latent_size}
    channels, patch_size, _ = tensors["x_embedder.proj.weight"].shape[1:]
    if channels * patch_size**2 != patch:
        channels = patch // patch_size**2
    options |= {"in_channels": channels, "patch_size": patch_size}
    options["input_size"] = grid_side(tensors) * patch_size
    rules, ignored = generator_rules(options), ignored_by_generator(options["depth"])
    decoder = args.get("decoder", DECODER if channels == LATENT_CHANNELS else None)
    notes = (DECODER_NOTE,) if decoder == DECODER else ()
    return Conversion(generator_spec(options, decoder), rules, tensors, ignored, notes)


def convert_discriminator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    num_classes, cmap_dim = tensors["y_embedder.embedding_table.weight"].shape
    channels, patch_size, _ = tensors["x_embedder.proj.weight"].shape[1:]
    options = sizes(tensors) | {"num_classes": num_classes, "cmap_dim": cmap_dim, "patch_size": patch_size}
    options |= {"in_channels": channels // NUM_LEVELS, "input_size": grid_side(tensors) * patch_size}
    if "proj.4.weight" in tensors:
        z_dim, projector_dim = tensors["proj.4.weight"].shape
        options |= {"z_dim": z_dim, "projector_dim": projector_dim}
    spec, rules = discriminator_spec(options), discriminator_rules(options)
    return Conversion(spec, rules, tensors, ignored_by_discriminator, (), discriminator_context(options))


def renamed(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors of an old file, whose blocks from the ninth on are called decoder blocks, under the later names."""

    def name_of(name: str) -> str:
        parts = name.split(".")
        if parts[0] != "decoder_blocks":
            return name
        return ".".join(["blocks", str(int(parts[1]) + LEGACY_BLOCKS), *parts[2:]])

    return {name_of(name): value for name, value in tensors.items()}


def sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor arguments that both networks share; the channels of a head are those of the rotations' table."""
    hidden_size, head_dim = tensors["pos_embed"].shape[-1], tensors["feat_rope.freqs_cos"].shape[-1]
    return {
        "hidden_size": hidden_size,
        "depth": count(tensors, "blocks.{}.attn.qkv.weight"),
        "num_heads": hidden_size // head_dim,
        "mlp_ratio": 4.0,
        "qk_norm": "blocks.0.attn.q_norm.weight" in tensors,
    }


def grid_side(tensors: Mapping[str, Tensor]) -> int:
    """Tokens along a side of the image."""
    return math.isqrt(tensors["pos_embed"].shape[1])


def ignored_by_generator(depth: int) -> Callable[[str], bool]:
    """Whether a tensor is ignored; blocks beyond the last readout are without effect."""
    quarter = depth // NUM_LEVELS
    beyond = range(depth // quarter * quarter, depth)
    prefixes = (*IGNORED, *(f"blocks.{index}." for index in beyond))
    return lambda name: name.startswith(prefixes)


def ignored_by_discriminator(name: str) -> bool:
    return name.startswith("feat_rope.")


def generator_rules(args: Options) -> list[WeightRule]:
    """The generator's weight rules."""
    rules = mapping_rules("mapping.")
    for index, (source, step) in enumerate(generator_steps(args)):
        target = f"synthesis.{index}"
        if source == "pos_embed":
            rules.append(rule(f"{target}.table", source, convert=as_grid))
        elif step["kind"] == "modulated-patches":
            rules += readout_rules(target, f"{source}.", args["patch_size"])
        else:
            rules += generator_block_rules(f"{target}.", f"{source}.", qk_norm=args["qk_norm"])
    return rules


def discriminator_rules(args: Options) -> list[WeightRule]:
    """The discriminator's weight rules."""
    rules = intake_rules("steps.0.")
    steps = discriminator_steps(args)
    for index, (source, _) in enumerate(steps[1:-1], start=1):
        if source == "proj":
            rules += projector_rules(f"steps.{index}.", "proj.")
        else:
            rules += discriminator_block_rules(f"steps.{index}.", f"{source}.", qk_norm=args["qk_norm"])
    return rules + head_rules(f"steps.{len(steps) - 1}.")


def mapping_rules(target: str) -> list[WeightRule]:
    """The mapping network."""
    return [
        rule(f"{target}w_avg", "w_avg"),
        rule(f"{target}embed.weight", "y_embedder.embedding_table.weight", convert=transposed),
        *weight_and_bias(f"{target}layer1", "latent_embedder.0"),
        *weight_and_bias(f"{target}layer2", "latent_embedder.2"),
    ]


def attention_rules(target: str, source: str, *, qk_norm: bool) -> Iterator[WeightRule]:
    """An attention block."""
    yield from weight_and_bias(f"{target}qkv", f"{source}qkv")
    yield from weight_and_bias(f"{target}proj", f"{source}proj")
    for name in ("q_norm", "k_norm") if qk_norm else ():
        yield rule(f"{target}query_key.{name}.weight", f"{source}{name}.weight")


def feed_forward_rules(target: str, source: str) -> list[WeightRule]:
    """A SwiGLU."""
    return [*weight_and_bias(f"{target}gated", f"{source}w12"), *weight_and_bias(f"{target}out", f"{source}w3")]


def generator_block_rules(target: str, source: str, *, qk_norm: bool) -> list[WeightRule]:
    return [
        *attention_rules(f"{target}attn.", f"{source}attn.", qk_norm=qk_norm),
        *feed_forward_rules(f"{target}mlp.", f"{source}mlp."),
        *weight_and_bias(f"{target}modulation", f"{source}adaLN_modulation.1"),
    ]


def discriminator_block_rules(target: str, source: str, *, qk_norm: bool) -> list[WeightRule]:
    return [
        *attention_rules(f"{target}attn.", f"{source}attn.", qk_norm=qk_norm),
        *feed_forward_rules(f"{target}mlp.", f"{source}mlp."),
        *(rule(f"{target}norm{number}.weight", f"{source}norm{number}.weight") for number in (1, 2)),
        rule(f"{target}scale1.gamma", f"{source}ls_attn"),
        rule(f"{target}scale2.gamma", f"{source}ls_mlp"),
    ]


def readout_rules(target: str, source: str, patch_size: int) -> list[WeightRule]:
    """A readout; a patch is in the order (row, column, channel) in the checkpoint, (channel, row, column) here."""

    def channels_first(value: Tensor) -> Tensor:
        return value.unflatten(0, (patch_size, patch_size, -1)).movedim(2, 0).flatten(0, 2)

    return [
        *weight_and_bias(f"{target}.modulation", f"{source}adaLN_modulation.1"),
        *(
            rule(f"{target}.patch.{name}", f"{source}linear.{name}", convert=channels_first)
            for name in ("weight", "bias")
        ),
    ]


def intake_rules(target: str) -> list[WeightRule]:
    """The discriminator's intake."""
    return [
        *weight_and_bias(f"{target}proj", "x_embedder.proj"),
        rule(f"{target}class_token", "cls_token", convert=lambda token: token.flatten()),
        rule(f"{target}pos_embed", "pos_embed", convert=as_grid),
    ]


def projector_rules(target: str, source: str) -> list[WeightRule]:
    """The projector of the alignment; its activations have no weights."""
    layers = (weight_and_bias(f"{target}layers.{index}", f"{source}{index}") for index in (0, 2, 4))
    return [each for layer in layers for each in layer]


def head_rules(target: str) -> list[WeightRule]:
    """The discriminator's head."""
    return [
        rule(f"{target}norm.weight", "final_layer.0.weight"),
        *weight_and_bias(f"{target}out", "final_layer.1"),
        rule(f"{target}embed.weight", "y_embedder.embedding_table.weight", convert=transposed),
        *weight_and_bias(f"{target}layer1", "y_embedder.latent_embedder.0"),
        *weight_and_bias(f"{target}layer2", "y_embedder.latent_embedder.2"),
    ]


def transposed(table: Tensor) -> Tensor:
    """An embedding table as the weight of a linear map of one-hot vectors."""
    return table.mT


def as_grid(table: Tensor) -> Tensor:
    """A table of positions [1,N,D] as [T,T,D]."""
    side = math.isqrt(table.shape[1])
    return table[0].unflatten(0, (side, side))


IMPORTERS = (
    Importer(
        "gat generator",
        is_generator,
        convert_generator,
        {"decoder": "The autoencoder that makes pictures of the latents; null for none."},
    ),
    Importer("gat discriminator", is_discriminator, convert_discriminator, {}, ("D",)),
)
