"""GAT's networks as lists of steps.

GAT, https://arxiv.org/abs/2509.24935. The functions that take `args` take the reference's constructor arguments:
input_size, patch_size, in_channels, hidden_size, depth, num_heads, mlp_ratio, num_classes, qk_norm; for the generator
latent_size, for the discriminator cmap_dim and, with the projector of its alignment, z_dim and projector_dim.
"""

from __future__ import annotations

from typing import Any

from assemblies.discriminator import LayeredDiscriminator
from assemblies.generator import LayeredGenerator
from assemblies.models.options import Options
from registry import Spec, incompatible

NUM_LEVELS = 4
LAYER_SCALE = 0.1
MODULATION_GAIN = 0.1
DECODER = {  # of the latents of Stable Diffusion, the reference's default in sampling
    "kind": "autoencoder-kl",
    "weights": "stabilityai/sd-vae-ft-ema",
    "scaling_factor": 0.18215,
    "shift_factor": 0.0,
}
Step = dict[str, Any]


def attention(args: Options, prefix_tokens: int = 0) -> Step:
    """The attention of both networks."""
    return {
        "kind": "dense",
        "num_heads": args["num_heads"],
        "qk_norm": args["qk_norm"],
        "rotary": True,
        "prefix_tokens": prefix_tokens,
        "init": "xavier-uniform",
    }


def feed_forward(args: Options) -> Step:
    return {"kind": "swiglu", "mlp_ratio": args["mlp_ratio"], "init": "xavier-uniform"}


def generator_block(args: Options, modulation_gain: float = MODULATION_GAIN) -> Step:
    return {
        "kind": "adaln-transformer",
        "attention": attention(args),
        "feed_forward": feed_forward(args),
        "modulation_gain": modulation_gain,
    }


def discriminator_block(args: Options, layer_scale: float = LAYER_SCALE) -> Step:
    return {
        "kind": "transformer",
        "norm": "rms-norm",
        "attention": attention(args, prefix_tokens=1),
        "feed_forward": feed_forward(args),
        "layer_scale": layer_scale,
    }


def generator_steps(
    args: Options,
    *,
    num_levels: int = NUM_LEVELS,
    modulation_gain: float = MODULATION_GAIN,
    patch_gain: float = 1.0,
) -> list[tuple[str, Step]]:
    """The generator's steps with their names in the reference; a readout follows each quarter of the blocks.

    A depth that is not a multiple of 4 may give more than four readouts, which the discriminator does not take.

    Args:
        args: The reference's constructor arguments.
        num_levels: Number of readouts, 4 in the reference.
        modulation_gain: Initial size of what the style controls.
        patch_gain: Initial size of the readouts.

    Raises:
        IncompatibleError: There are less blocks than levels.
    """
    depth = args["depth"]
    per_level = depth // num_levels
    if not per_level:
        raise incompatible("depth", f"{depth} blocks give no {num_levels} images; take {num_levels} or more")
    tokens = args["input_size"] // args["patch_size"]
    readout = {
        "kind": "modulated-patches",
        "patch_size": args["patch_size"],
        "modulation_gain": modulation_gain,
        "patch_gain": patch_gain,
    }
    steps = [("pos_embed", {"kind": "sinusoidal-tokens", "dim": args["hidden_size"], "resolution": tokens})]
    for level in range(depth // per_level):
        blocks = range(level * per_level, (level + 1) * per_level)
        steps += [(f"blocks.{index}", generator_block(args, modulation_gain)) for index in blocks]
        steps.append((f"final_layers.{level}", readout))
    return steps  # blocks beyond the last readout are without effect


def discriminator_steps(
    args: Options, *, num_levels: int = NUM_LEVELS, layer_scale: float = LAYER_SCALE
) -> list[tuple[str, Step]]:
    """The discriminator's steps with their names in the reference.

    Args:
        args: The reference's constructor arguments.
        num_levels: Number of levels of an image, 4 in the reference.
        layer_scale: Initial gain of both branches of a block.
    """
    intake = {"kind": "noised-levels", "dim": args["hidden_size"], "patch_size": args["patch_size"]}
    blocks = [(f"blocks.{index}", discriminator_block(args, layer_scale)) for index in range(args["depth"])]
    projector = {"kind": "token-projector", "dim": args.get("z_dim", 0), "projector_dim": args.get("projector_dim", 0)}
    return [
        ("x_embedder", intake | {"num_levels": num_levels}),
        *blocks,
        *([("proj", projector)] if projector["dim"] else []),
        ("final_layer", {"kind": "class-projection", "embed_dim": args["cmap_dim"]}),
    ]


def generator_spec(args: Options, decoder: Step | None = None, mapping: Step | str = "class-mapping") -> Spec:
    """The generator of the reference's arguments; one style vector of the tokens' width for all steps."""
    return LayeredGenerator.Spec(
        z_dim=args["latent_size"],
        w_dim=args["hidden_size"],
        cond_dim=args["num_classes"],
        mapping=mapping,
        synthesis=[step for _, step in generator_steps(args)],
        image_channels=args["in_channels"],
        multi_level=True,
        decoder=decoder,
    )


def discriminator_spec(args: Options) -> Spec:
    """The discriminator of the reference's arguments; with z_dim 0 or none it has no projector."""
    return LayeredDiscriminator.Spec(steps=[step for _, step in discriminator_steps(args)])


def discriminator_context(args: Options) -> dict[str, Any]:
    """The arguments that a discriminator is built with beside its spec."""
    side = args["input_size"]
    return {"resolution": (side, side), "image_channels": args["in_channels"], "cond_dim": args["num_classes"]}
