"""StyleGAN2: its networks at any size, and the model of faces at 256 pixels.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958; training values: StyleGAN2-ADA, Karras et al. 2020,
https://arxiv.org/abs/2006.06676.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

from assemblies.gan import GAN
from registry import Spec

CLAMP = 256.0  # conv_clamp of every configuration
Step = dict[str, Any]
Architecture = Literal["resnet", "orig", "skip"]


def width(resolution: int, base: int, most: int) -> int:
    """Channels at a resolution: `base` over it, at most `most`."""
    return min(base // resolution, most)


def conv_steps(resolution: int, dim: int, *, clamp: float | None = None) -> dict[str, Step]:
    """One resolution of the generator: a convolution that doubles the map, another, and their share of the image."""
    conv = {"kind": "modulated-conv", "dim": dim, "clamp": clamp}
    return {
        f"b{resolution}.conv0": conv | {"up": 2},
        f"b{resolution}.conv1": conv,
        f"b{resolution}.torgb": {"kind": "to-rgb", "modulation": "modulate", "clamp": clamp},
    }


def synthesis_steps(
    resolution: int, *, channel_base: int = 32768, channel_max: int = 512, clamp: float | None = None
) -> dict[str, Step]:
    """The generator's steps by the names that StyleGAN2-ADA gives its parts.

    Args:
        resolution: Height and width of the images, a power of two from 8 on.
        channel_base: Channels at a resolution, times the resolution.
        channel_max: Channels at most.
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
    """A generator with z and w of 512 features; the options are those of `synthesis_steps`."""
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
    """The discriminator's steps by the names that StyleGAN2-ADA gives its parts.

    Blocks halve the map down to 4 pixels; 48 pixels go 24, 12, 6, 3, which is ours: the reference knows powers of two
    only.

    Args:
        resolution: Height and width of the images.
        channel_base: Channels at a resolution, times the resolution.
        channel_max: Channels at most.
        architecture: "resnet" has shortcuts in its blocks, "orig" none, "skip" an intake before each block instead.
        group_size: Images whose deviation is told to the last layers; None for the whole batch.
        num_std_channels: Channels that tell it; 0 for none.
        clamp: Largest magnitude of a layer's output.
        head: Options of the head beside its width.
    """
    sizes = [resolution]
    while sizes[-1] > 4:
        sizes.append(sizes[-1] // 2)
    dims = [width(size, channel_base, channel_max) for size in sizes[:-1]]
    dims.append(width(4, channel_base, channel_max))
    intake = {"kind": "from-rgb", "clamp": clamp}
    block = {"kind": "residual-conv", "clamp": clamp, "architecture": "resnet" if architecture == "resnet" else "orig"}
    steps: dict[str, Step] = {}
    for size, (dim, next_dim) in zip(sizes, pairwise(dims), strict=False):
        if size == resolution or architecture == "skip":
            steps[f"b{size}.fromrgb"] = intake | {"dim": dim}
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


def stylegan2_ffhq_256() -> Spec:
    """StyleGAN2 for faces (FFHQ) at 256 px, as StyleGAN2-ADA trained it for its baselines: configuration paper256."""
    return trained(
        generator(256, channel_base=16384, clamp=CLAMP),
        discriminator(256, channel_base=16384, group_size=8, clamp=CLAMP),
        batch_size=64,  # paper256; 8 images on each of 8 GPUs
        gamma=1.0,  # paper256
        ema_kimg=20.0,  # paper256
        ramp_up=None,  # paper256
        augmented=False,  # 70,000 faces, mirrored, need none: StyleGAN2-ADA, figure 7
    )


def trained(
    generator: dict[str, Any],
    discriminator: dict[str, Any],
    *,
    batch_size: int,
    gamma: float,
    ema_kimg: float,
    ramp_up: float | None = 0.05,
    lr: float = 0.0025,
    kimg: float = 25000.0,
    path_length: float = 2.0,
    style_mixing: float = 0.9,
    augmented: bool = True,
    augment_limit: float | None = 1.0,
) -> Spec:
    """A GAN with the training of StyleGAN2-ADA; what is no argument is the same in all of its configurations.

    Args:
        generator: The generator.
        discriminator: The discriminator.
        batch_size: Images in a step, over all GPUs.
        gamma: Weight of R1.
        ema_kimg: Half-life of the generator's average.
        ramp_up: Share of the images so far that this half-life never exceeds.
        lr: Trainable rate of both networks.
        kimg: Length.
        path_length: Weight of the path length's penalty; 0 for none.
        style_mixing: How often the images of a batch have the styles of two latents.
        augmented: Whether images pass ADA.
        augment_limit: The largest probability of ADA's transforms; StyleGAN2-ADA has no limit, ours is 1.
    """
    regularizers: list[dict[str, Any]] = [{"kind": "r1", "gamma": gamma, "every": 16}]
    if path_length:
        regularizers.append({"kind": "path-length", "weight": path_length, "every": 4, "batch_shrink": 2})
    optimizer = {"lr": lr, "betas": (0.0, 0.99), "eps": 1e-8}
    return GAN.Spec(
        generator=generator,
        discriminator=discriminator,
        loss="non-saturating",
        regularizers=regularizers,
        style_mixing=style_mixing,
        augment={"kind": "ada", "target": 0.6, "limit": augment_limit} if augmented else None,
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        ema={"half_life_kimg": ema_kimg, "ramp_up": ramp_up},
        batch_size=batch_size,
        kimg=kimg,
    )
