"""StyleGAN-T's networks as lists of steps.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515. The functions that take `args` take the constructor
arguments of the published code.
"""

from __future__ import annotations

from typing import Any, Literal

from assemblies.discriminators.projected import ProjectedDiscriminator
from assemblies.generator import LayeredGenerator
from assemblies.models.options import Options, check_options, check_power_of_two, renamed, without
from assemblies.models.stylegan2.architecture import BINOMIAL, CLAMP, Step, width
from registry import Spec, incompatible

Z_DIM = 64
LITE: dict[str, int] = {"channel_base": 32768, "channel_max": 512, "num_pairs": 2}
FULL: dict[str, int] = {"channel_base": 65536, "channel_max": 2048, "num_pairs": 3}
DINO = "vit_small_patch16_224.dino"
HOOKS = (2, 5, 8, 11)  # blocks of the vision transformer that the heads read, counted from 0
Architecture = Literal["skip", "orig"]


def synthesis_steps(
    resolution: int,
    *,
    channel_base: int = LITE["channel_base"],
    channel_max: int = LITE["channel_max"],
    num_pairs: int = LITE["num_pairs"],
    num_groups: int = 32,
    architecture: Architecture = "skip",
    clamp: float | None = CLAMP,
) -> dict[str, Step]:
    """The generator's steps, keyed by the names that the published code gives its parts.

    Args:
        resolution: Height and width of the images, a power of two from 8 on.
        channel_base: Channels at a resolution, times the resolution.
        channel_max: Upper limit of the channels.
        num_pairs: Pairs of a plain and a residual convolution at each resolution.
        num_groups: Groups of the group norms of the residual convolutions.
        architecture: "skip" adds to the image at each resolution, "orig" makes the image at the last.
        clamp: Largest magnitude of a convolution's output.
    """
    steps: dict[str, Step] = {}
    for size in (1 << power for power in range(3, resolution.bit_length())):
        dim = width(size, channel_base, channel_max)
        conv: Step = {"kind": "modulated-conv", "dim": dim, "style_order": 2, "clamp": clamp}
        half = conv | {"gain": 0.5**0.5}
        if size == 8:
            steps["b8.input"] = {"kind": "fourier-features", "dim": dim}
        else:
            steps[f"b{size}.conv0"] = conv | {"up": 2}
        for pair in range(num_pairs):
            norm = {"kind": "group-norm", "num_groups": num_groups}
            steps[f"b{size}.convs1.{2 * pair}"] = half
            steps[f"b{size}.convs1.{2 * pair + 1}"] = {"kind": "residual", "norm": norm, "layer": half}
        if architecture == "skip" or size == resolution:
            steps[f"b{size}.torgb"] = {
                "kind": "to-rgb",
                "modulation": "modulate",
                "weight_init": 0.1,
                "style_order": 2,
                "clamp": clamp,
            }
    return steps


def generator(
    resolution: int, *, cond_dim: int = 0, condition: dict[str, Any] | None = None, z_dim: int = Z_DIM, **options: Any
) -> dict[str, Any]:
    """A generator, conditional or not.

    Args:
        resolution: Height and width of the images.
        cond_dim: Features of the condition: 768 for captions encoded by ViT-L-14, or the number of classes.
        condition: Options of the block that encodes captions or classes.
        z_dim: Features of the latent, which the style concatenates with the condition.
        options: Those of `synthesis_steps`.
    """
    return {
        "kind": "layered",
        "z_dim": z_dim,
        "w_dim": z_dim + cond_dim,
        "cond_dim": cond_dim,
        "condition": condition,
        "mapping": {"kind": "bypass-mapping"},
        "synthesis": list(synthesis_steps(resolution, **options).values()),
    }


def discriminator() -> dict[str, Any]:
    """Heads on five depths of DINO's small vision transformer, the same for all sizes and resolutions."""
    depths = [*(hook + 1 for hook in HOOKS), 0]
    return {"kind": "projected", "networks": [{"kind": "timm", "network": DINO, "depths": depths}]}


def generator_spec(args: Options) -> Spec:
    """The generator of the published code's arguments: z_dim, c_dim, img_resolution, img_channels and so on.

    Raises:
        IncompatibleError: No block has one of these options.
    """
    return LayeredGenerator.Spec(
        z_dim=args["z_dim"],
        w_dim=args["z_dim"] + args.get("c_dim", 0),
        cond_dim=args.get("c_dim", 0),
        mapping=mapping_options(args),
        synthesis=list(reference_synthesis(args).values()),
        image_channels=args.get("img_channels", 3),
    )


def mapping_options(args: Options) -> dict[str, Any]:
    """The mapping network of these arguments: num_layers, lr_multiplier and x_avg_beta."""
    names = {"num_layers": "num_layers", "lr_multiplier": "lr_multiplier", "x_avg_beta": "w_avg_beta"}
    return {"kind": "bypass-mapping"} | renamed(args, names)


def reference_synthesis(args: Options) -> dict[str, Step]:
    """`synthesis_steps` of the published code's arguments.

    Raises:
        IncompatibleError: No block has one of these options, or the resolution is no power of two.
    """
    options = args.get("synthesis_kwargs", {})
    names = {"num_res_blocks": "num_pairs", "gn_groups": "num_groups", "architecture": "architecture"}
    names |= {"channel_base": "channel_base", "channel_max": "channel_max"}
    check_options(
        ("synthesis_kwargs",),
        without(options, *names, "conv_clamp", "verbose"),
        kernel_size=3,
        activation="lrelu",
        resample_filter=BINOMIAL,
        use_noise=True,
    )
    # "orig" is the default of the class; the published command line sets "skip"
    known = {"architecture": "orig"} | renamed(options, names)
    if known["architecture"] not in ("skip", "orig"):
        raise incompatible(("synthesis_kwargs", "architecture"), f"is skip or orig, not {known['architecture']!r}")
    check_power_of_two("img_resolution", args["img_resolution"], 8)
    return synthesis_steps(args["img_resolution"], clamp=options.get("conv_clamp", CLAMP), **known)


def discriminator_spec(args: Options) -> Spec:
    """The discriminator of the published code's arguments.

    Args:
        args: c_dim, cmap_dim, virtual_bs, and vit: sizes of the vision transformer.

    Raises:
        IncompatibleError: No block has one of these options.
    """
    return ProjectedDiscriminator.Spec(networks=[backbone_options(args.get("vit", {}))], head=head_options(args))


def discriminator_context(args: Options) -> dict[str, int]:
    """The arguments that a discriminator is built with beside its spec."""
    channels = args.get("img_channels", 3)
    return {"resolution": args["img_resolution"], "image_channels": channels, "cond_dim": args.get("c_dim", 0)}


def backbone_options(vit: Options, hooks: tuple[int, ...] = HOOKS) -> dict[str, Any]:
    """The frozen backbone: DINO's small vision transformer, or one of other sizes."""
    names = {"embed_dim": "embed_dim", "depth": "depth", "num_heads": "num_heads", "mlp_ratio": "mlp_ratio"}
    return {
        "kind": "timm",
        "network": DINO,
        "weights": None,  # the checkpoint of the discriminator has them
        "depths": [*(hook + 1 for hook in hooks), 0],
        "image_size": vit.get("img_size"),
        "arguments": renamed(vit, names | {"patch": "patch_size"}),
    }


def head_options(args: Options) -> dict[str, Any]:
    """A head of these arguments: cmap_dim and virtual_bs."""
    return {
        "kind": "token-conv",
        "embed_dim": args.get("cmap_dim", 64),
        "norm": {"kind": "batch-norm-local", "group_size": args.get("virtual_bs", 8)},
    }
