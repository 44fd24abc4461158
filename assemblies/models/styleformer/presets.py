"""Styleformer: generators of styled attention, trained against StyleGAN2's discriminator.

Styleformer, Park and Kim 2021, https://arxiv.org/abs/2106.07023; training: StyleGAN2-ADA, Karras et al. 2020,
https://arxiv.org/abs/2006.06676, whose trainer the authors' repository has kept.

Widths and layers are those of the published files (read from a third party's port that loads them); their parameters
are counted in the tests. What the files were trained with is published nowhere: where the repository does not decide
it, "chosen by us" stands beside a value. Styleformer-C, whose high resolutions are StyleGAN2's, is in the paper but in
no public code: those two presets are ours altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assemblies.models.stylegan2 import presets as stylegan2
from assemblies.models.stylegan2.presets import CLAMP, Step, trained
from registry import Spec

HEAD_DIM = 32  # the paper's increased multi-head attention, depth 32 in the repository
RANK = 256  # tokens of Linformer; repository
LINFORMER_FROM = 32  # pixels from which Styleformer-L has Linformer; repository


def num_heads(dim: int, head_dim: int = HEAD_DIM, least: int = 1) -> int:
    """Heads of a layer: `head_dim` channels each at least, so a single one where there are fewer channels."""
    return max(least, dim // head_dim)


def synthesis_steps(
    start: int,
    dims: Sequence[int],
    num_layers: Sequence[int],
    *,
    head_dim: int = HEAD_DIM,
    least_heads: int = 1,
    rank: int | None = None,
    linformer_from: int = LINFORMER_FROM,
    clamp: float | None = CLAMP,
) -> dict[str, Step]:
    """The generator's steps by the names that the authors' code gives its parts.

    Args:
        start: Height and width of the first map; it doubles from one resolution to the next.
        dims: Channels at each resolution.
        num_layers: Layers at each resolution.
        head_dim: Channels of a head, at least.
        least_heads: Heads of a layer, at least.
        rank: Tokens of Linformer; None for attention to all pixels everywhere.
        linformer_from: Height of the maps from which Linformer takes its place.
        clamp: Largest magnitude of a layer's output.
    """
    steps: dict[str, Step] = {f"b{start}_0.const": {"kind": "constant", "resolution": start, "dim": dims[0]}}
    for number, (dim, layers) in enumerate(zip(dims, num_layers, strict=True)):
        size, last = start << number, number == len(dims) - 1
        steps[f"b{size}_0.pos_embedding"] = {"kind": "pos-embed"}
        for layer in range(layers):
            out = dim if last or layer < layers - 1 else dims[number + 1]
            heads = num_heads(dim, head_dim, least_heads)
            tokens = rank if size >= linformer_from else None
            attention = {"kind": "styled-attention", "dim": out, "num_heads": heads, "rank": tokens, "clamp": clamp}
            steps[f"b{size}_{layer}.enc"] = attention
        steps[f"b{size}_{layers - 1}.torgb"] = {"kind": "to-rgb", "modulation": "demodulate"}
        if not last:
            steps[f"b{size}_{layers - 1}.upsample"] = {"kind": "upsample"}
    return steps


def generator(start: int, dims: Sequence[int], num_layers: Sequence[int], **options: Any) -> dict[str, Any]:
    """A generator with z and w of 512 features and a mapping of 2 layers; options are those of `synthesis_steps`."""
    return {
        "kind": "layered",
        "z_dim": 512,
        "mapping": {"kind": "mapping", "num_layers": 2},
        "synthesis": list(synthesis_steps(start, dims, num_layers, **options).values()),
    }


def composed(resolution: int, dims: Sequence[int], num_layers: Sequence[int], channel_base: int) -> dict[str, Any]:
    """Styleformer-C: styled attention from 8 pixels on, then StyleGAN2's convolutions up to the resolution."""
    sizes = [8 << number for number in range(len(dims), (resolution // 8).bit_length())]
    widths = [stylegan2.width(size, channel_base, 512) for size in sizes]
    steps = synthesis_steps(8, dims, num_layers)
    for size, dim in zip(sizes, widths, strict=True):
        steps |= stylegan2.conv_steps(size, dim, clamp=CLAMP)
    mapping = {"kind": "mapping", "num_layers": 2}
    return {"kind": "layered", "z_dim": 512, "mapping": mapping, "synthesis": list(steps.values())}


def styleformer_cifar10_32() -> Spec:
    """Styleformer-Large for CIFAR-10: attention to all pixels up to 32x32; FID 2.82."""
    # The repository's configuration cifar, called as its README calls it.
    return trained(
        generator(8, (1024, 512, 512), (1, 3, 3)),
        stylegan2.discriminator(32, architecture="orig", channel_base=32768, group_size=4, clamp=CLAMP),
        batch_size=32,
        gamma=0.01,
        ema_kimg=500.0,
        path_length=0.0,
        style_mixing=0.0,
        kimg=100_000.0,
    )


def styleformer_stl10_48() -> Spec:
    """Styleformer-Medium for STL-10 at 48 px: maps from 12x12 to 48x48; FID 15.17."""
    return automatic(48, generator(12, (1024, 256, 64), (1, 3, 3)), num_resolutions=3, channel_base=18432)


def styleformer_celeba_64() -> Spec:
    """Styleformer-L for faces (CelebA) at 64 px: Linformer from 32x32 on; FID 3.66."""
    return automatic(64, generator(8, (1024, 256, 64, 64), (1, 2, 1, 1), rank=RANK), num_resolutions=4)


def styleformer_church_128() -> Spec:
    """Styleformer-L for churches (LSUN) at 128 px: Linformer from 32x32 on; FID 7.99."""
    return automatic(128, generator(8, (1024, 256, 64, 64, 64), (1, 2, 1, 1, 1), rank=RANK), num_resolutions=5)


def styleformer_c_256() -> Spec:
    """Ours, after the paper's Styleformer-C: styled attention up to 32x32, StyleGAN2's convolutions up to 256 px."""
    return automatic(256, composed(256, (512, 512, 512), (1, 2, 2), channel_base=16384))


def styleformer_c_1024() -> Spec:
    """Ours, after the paper's Styleformer-C: styled attention up to 32x32, StyleGAN2's convolutions up to 1024 px."""
    return automatic(1024, composed(1024, (512, 512, 512), (1, 2, 2), channel_base=32768))


def automatic(
    resolution: int, generator: dict[str, Any], num_resolutions: int = 1, channel_base: int | None = None
) -> Spec:
    """The repository's configuration auto on four GPUs; that it is this one, and four, is chosen by us.

    Args:
        resolution: Height and width of the images.
        generator: The generator.
        num_resolutions: How many resolutions of the generator are the authors'. All of theirs but one bring a style
            vector with them that nothing uses, and which counts where style vectors are counted.
        channel_base: Of the discriminator; None for the configuration's. For 48 pixels it is chosen by us, as is how
            they are halved down to 3: the repository's discriminator takes powers of two only.
    """
    batch_size = max(min(4 * min(4096 // resolution, 32), 64), 4)
    channel_base = channel_base or (16384 if resolution < 512 else 32768)
    used = 1 + sum(step["kind"] in ("styled-attention", "modulated-conv") for step in generator["synthesis"])
    reserved = used + num_resolutions - 1
    return trained(
        generator,
        stylegan2.discriminator(resolution, channel_base=channel_base, group_size=min(batch_size // 4, 4), clamp=CLAMP),
        batch_size=batch_size,
        gamma=0.0002 * resolution**2 / batch_size,
        ema_kimg=batch_size * 10 / 32,
        lr=0.0025 if resolution < 1024 else 0.002,
        path_length=2.0 * used / reserved,  # the mean of squares is over all that are reserved
        style_mixing=0.9 * (used - 1) / (reserved - 1),  # a mix that begins after the last used is none
        augment_limit=0.7 if any(step.get("rank") for step in generator["synthesis"]) else 1.0,
    )


def mini_styleformer() -> Spec:
    """A small Styleformer, ours: handwritten digits at 16 px in minutes on two CPU cores."""
    return trained(
        generator(8, (96, 64), (1, 1)) | {"z_dim": 64, "image_channels": 1},
        stylegan2.discriminator(16, channel_base=512, channel_max=64, group_size=8),
        batch_size=32,
        gamma=1.0,
        ema_kimg=2.0,
        lr=0.004,
        kimg=24.0,
        path_length=0.0,
        style_mixing=0.0,
        augmented=False,
    )
