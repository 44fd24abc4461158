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


def generator_block(args: Options) -> Step:
    return {"kind": "adaln-transformer", "attention": attention(args), "feed_forward": feed_forward(args)}


def discriminator_block(args: Options) -> Step:
    return {
        "kind": "transformer",
        "norm": "rms-norm",
        "attention": attention(args, prefix_tokens=1),
        "feed_forward": feed_forward(args),
        "layer_scale": LAYER_SCALE,
    }


def readout(args: Options) -> Step:
    return {"kind": "modulated-patches", "patch_size": args["patch_size"]}


def generator_steps(args: Options) -> list[tuple[str, Step]]:
    """The generator's steps with their names in the reference; a readout follows each quarter of the blocks.

    A depth that is not a multiple of 4 may give more than four readouts, which the discriminator does not take.

    Raises:
        IncompatibleError: There are less than four blocks.
    """
    depth = args["depth"]
    quarter = depth // NUM_LEVELS
    if not quarter:
        raise incompatible("depth", f"{depth} blocks give no {NUM_LEVELS} images; take {NUM_LEVELS} or more")
    tokens = args["input_size"] // args["patch_size"]
    steps = [("pos_embed", {"kind": "sinusoidal-tokens", "dim": args["hidden_size"], "resolution": tokens})]
    for level in range(depth // quarter):
        blocks = range(level * quarter, (level + 1) * quarter)
        steps += [(f"blocks.{index}", generator_block(args)) for index in blocks]
        steps.append((f"final_layers.{level}", readout(args)))
    return steps  # blocks beyond the last readout are without effect


def discriminator_steps(args: Options) -> list[tuple[str, Step]]:
    """The discriminator's steps with their names in the reference."""
    intake = {"kind": "noised-levels", "dim": args["hidden_size"], "patch_size": args["patch_size"]}
    intake["num_levels"] = NUM_LEVELS
    blocks = [(f"blocks.{index}", discriminator_block(args)) for index in range(args["depth"])]
    projector = {"kind": "token-projector", "dim": args.get("z_dim", 0), "projector_dim": args.get("projector_dim", 0)}
    return [
        ("x_embedder", intake),
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
