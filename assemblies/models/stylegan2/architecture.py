"""StyleGAN2's networks as lists of steps.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, as in StyleGAN2-ADA, Karras et al. 2020,
https://arxiv.org/abs/2006.06676. The functions that take `args` take the reference's constructor arguments, which its
checkpoints store.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

from assemblies.discriminator import LayeredDiscriminator
from assemblies.generator import LayeredGenerator
from assemblies.models.options import Options, check_options, renamed, without
from registry import Spec, incompatible

CLAMP = 256.0  # conv_clamp of every configuration
BINOMIAL = [1, 3, 3, 1]
CONTEXT = ("c_dim", "img_resolution", "img_channels")
Step = dict[str, Any]
Architecture = Literal["resnet", "orig", "skip"]


def width(resolution: int, base: int, limit: int) -> int:
    """Channels at a resolution: `base` over the resolution, at most `limit`."""
    return min(base // resolution, limit)


def conv_steps(resolution: int, dim: int, *, clamp: float | None = None) -> dict[str, Step]:
    """One resolution of the generator: an upsampling convolution, another convolution, and their part of the image."""
    conv = {"kind": "modulated-conv", "dim": dim, "clamp": clamp}
    return {
        f"b{resolution}.conv0": conv | {"up": 2},
        f"b{resolution}.conv1": conv,
        f"b{resolution}.torgb": {"kind": "to-rgb", "modulation": "modulate", "clamp": clamp},
    }


def synthesis_steps(
    resolution: int, *, channel_base: int = 32768, channel_max: int = 512, clamp: float | None = None
) -> dict[str, Step]:
    """The generator's steps, keyed by the names that StyleGAN2-ADA gives its parts.

    Args:
        resolution: Height and width of the images, a power of two from 8 on.
        channel_base: Channels at a resolution, times the resolution.
        channel_max: Upper limit of the channels.
        clamp: Largest magnitude of a layer's output.
    """
    dims = {1 << power: width(1 << power, channel_base, channel_max) for power in range(2, resolution.bit_length())}
    steps: dict[str, Step] = {"b4.const": {"kind": "constant", "resolution": 4, "dim": dims[4]}}
    for size, dim in dims.items():
        stage = conv_steps(size, dim, clamp=clamp)
        if size == 4:
            del stage["b4.conv0"]
        steps |= stage
    return steps


def generator(resolution: int, *, num_mapping_layers: int = 8, **options: Any) -> dict[str, Any]:
    """A generator whose z and w have 512 features; the options are those of `synthesis_steps`."""
    return {
        "kind": "layered",
        "z_dim": 512,
        "mapping": {"kind": "mapping", "num_layers": num_mapping_layers},
        "synthesis": list(synthesis_steps(resolution, **options).values()),
    }


def discriminator_steps(
    resolution: int,
    *,
    channel_base: int = 32768,
    channel_max: int = 512,
    architecture: Architecture = "resnet",
    group_size: int | None = 4,
    num_std_channels: int = 1,
    clamp: float | None = None,
    head: dict[str, Any] | None = None,
) -> dict[str, Step]:
    """The discriminator's steps, keyed by the names that StyleGAN2-ADA gives its parts.

    Blocks halve the map down to 4 pixels. Resolutions that are no power of two are ours: 48 pixels become 24, 12, 6, 3.

    Args:
        resolution: Height and width of the images.
        channel_base: Channels at a resolution, times the resolution.
        channel_max: Upper limit of the channels.
        architecture: "resnet": blocks have shortcuts. "orig": they have none. "skip": they have none, and each reads
            the downsampled image too.
        group_size: Images in a group of the minibatch standard deviation; None for the whole batch.
        num_std_channels: Channels of the minibatch standard deviation; 0 for none.
        clamp: Largest magnitude of a layer's output.
        head: Options of the head beside its width.
    """
    sizes = [resolution]
    while sizes[-1] > 4:
        sizes.append(sizes[-1] // 2)
    dims = [width(size, channel_base, channel_max) for size in sizes[:-1]]
    dims.append(width(4, channel_base, channel_max))
    from_rgb = {"kind": "from-rgb", "clamp": clamp}
    block = {"kind": "residual-conv", "clamp": clamp, "architecture": "resnet" if architecture == "resnet" else "orig"}
    steps: dict[str, Step] = {}
    for size, (dim, next_dim) in zip(sizes, pairwise(dims), strict=False):
        if size == resolution or architecture == "skip":
            steps[f"b{size}.fromrgb"] = from_rgb | {"dim": dim}
        steps[f"b{size}"] = block | {"dim": next_dim}
    if architecture == "skip":
        steps["b4.fromrgb"] = {"kind": "from-rgb", "dim": dims[-1]}  # the only one without clamp
    if num_std_channels:
        steps["b4.mbstd"] = {"kind": "minibatch-std", "group_size": group_size, "num_channels": num_std_channels}
    steps["b4.conv"] = {"kind": "conv", "dim": dims[-1], "clamp": clamp}
    steps["b4.head"] = {"kind": "linear", "hidden_dim": dims[-1]} | (head or {})
    return steps


def discriminator(resolution: int, **options: Any) -> dict[str, Any]:
    """A discriminator; the options are those of `discriminator_steps`."""
    return {"kind": "layered", "steps": list(discriminator_steps(resolution, **options).values())}


def generator_spec(args: Options) -> Spec:
    """The generator of the reference's arguments.

    Raises:
        IncompatibleError: No block has one of these options.
    """
    return LayeredGenerator.Spec(**generator_options(args), synthesis=list(reference_synthesis(args).values()))


def reference_synthesis(args: Options) -> dict[str, Step]:
    """`synthesis_steps` of the reference's arguments."""
    options = dict(args.get("synthesis_kwargs", {}))
    widths = {name: options.pop(name) for name in ("channel_base", "channel_max") if name in options}
    clamp, use_noise = options.pop("conv_clamp", None), options.pop("use_noise", True)
    check_options(("synthesis_kwargs",), options, architecture="skip", resample_filter=BINOMIAL, activation="lrelu")
    if not use_noise:
        raise incompatible(("synthesis_kwargs", "use_noise"), "a generator without noise has other tensors")
    return synthesis_steps(args["img_resolution"], clamp=clamp, **widths)


def generator_options(args: Options) -> dict[str, Any]:
    """A generator's options except its synthesis.

    Raises:
        IncompatibleError: No block has one of these options.
    """
    check_options((), without(args, "z_dim", "w_dim", "mapping_kwargs", "synthesis_kwargs", *CONTEXT))
    return {
        "z_dim": args["z_dim"],
        "w_dim": args["w_dim"],
        "cond_dim": args.get("c_dim", 0),
        "image_channels": args["img_channels"],
        "mapping": mapping_options(args.get("mapping_kwargs", {})),
    }


def mapping_options(mapping: Options) -> dict[str, Any]:
    """The mapping network of the reference's `mapping_kwargs`."""
    names = {"num_layers": "num_layers", "layer_features": "layer_dim", "embed_features": "embed_dim"}
    names |= {"lr_multiplier": "lr_multiplier", "w_avg_beta": "w_avg_beta"}
    check_options(("mapping_kwargs",), without(mapping, *names), activation="lrelu")
    return {"kind": "mapping"} | renamed(mapping, names)


def discriminator_spec(args: Options) -> Spec:
    """The discriminator of the reference's arguments.

    Raises:
        IncompatibleError: No block has one of these options.
    """
    return LayeredDiscriminator.Spec(steps=list(reference_discriminator(args).values()))


def discriminator_context(args: Options) -> dict[str, int]:
    """The arguments that a discriminator is built with beside its spec."""
    return {
        "resolution": args["img_resolution"],
        "image_channels": args["img_channels"],
        "cond_dim": args.get("c_dim", 0),
    }


def reference_discriminator(args: Options) -> dict[str, Step]:
    """`discriminator_steps` of the reference's arguments."""
    options = without(args, *CONTEXT)
    known = {name: options.pop(name) for name in ("channel_base", "channel_max", "architecture") if name in options}
    epilogue, clamp = dict(options.pop("epilogue_kwargs", {})), options.pop("conv_clamp", None)
    mapping, block = options.pop("mapping_kwargs", {}), options.pop("block_kwargs", {})
    group_size, std_channels = epilogue.pop("mbstd_group_size", 4), epilogue.pop("mbstd_num_channels", 1)
    head = {"embed_dim": options.pop("cmap_dim", None), "mapping": mapping_options(mapping)}
    check_options((), options)
    check_options(("epilogue_kwargs",), epilogue, activation="lrelu")
    check_options(("block_kwargs",), block, activation="lrelu", resample_filter=BINOMIAL)
    return discriminator_steps(
        args["img_resolution"], group_size=group_size, num_std_channels=std_channels, clamp=clamp, head=head, **known
    )
