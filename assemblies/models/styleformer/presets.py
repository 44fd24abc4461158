"""Styleformer: generators of styled attention, trained against StyleGAN2's discriminator.

Styleformer, Park and Kim 2021, https://arxiv.org/abs/2106.07023; training: StyleGAN2-ADA, Karras et al. 2020,
https://arxiv.org/abs/2006.06676, whose trainer the authors' repository keeps.

Widths and layers are those of the published files, as read from a third party's port that loads them; tests count their
parameters. The training values of the files are not published: "chosen by us" marks the values that the repository does
not determine. Styleformer-C, whose high resolutions are StyleGAN2's, is in the paper but in no public code: its two
presets are ours.
"""

from __future__ import annotations

from typing import Any

from assemblies.gan import GAN
from assemblies.models.styleformer.architecture import RANK, generator, hybrid_generator
from assemblies.models.stylegan2.architecture import CLAMP, discriminator
from assemblies.models.stylegan2.training import gan_spec
from registry import Spec

__all__ = [
    "mini_styleformer",
    "styleformer_c_256",
    "styleformer_c_1024",
    "styleformer_celeba_64",
    "styleformer_church_128",
    "styleformer_cifar10_32",
    "styleformer_stl10_48",
]


def styleformer_cifar10_32() -> Spec:
    """Styleformer-Large for CIFAR-10: attention to all pixels up to 32x32; FID 2.82."""
    # The repository's configuration cifar, called as its README calls it.
    return gan_spec(
        generator(8, (1024, 512, 512), (1, 3, 3)),
        discriminator(32, architecture="orig", channel_base=32768, group_size=4, clamp=CLAMP),
        batch_size=32,
        gamma=0.01,
        ema_kimg=500.0,
        path_length=0.0,
        style_mixing=0.0,
        kimg=100_000.0,
        correct_generator=True,
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
    return automatic(256, hybrid_generator(256, (512, 512, 512), (1, 2, 2), channel_base=16384))


def styleformer_c_1024() -> Spec:
    """Ours, after the paper's Styleformer-C: styled attention up to 32x32, StyleGAN2's convolutions up to 1024 px."""
    return automatic(1024, hybrid_generator(1024, (512, 512, 512), (1, 2, 2), channel_base=32768))


def automatic(
    resolution: int, generator: dict[str, Any], num_resolutions: int = 1, channel_base: int | None = None
) -> Spec:
    """The repository's configuration `auto` on four GPUs. Both `auto` and the number of GPUs are chosen by us.

    Args:
        resolution: Height and width of the images.
        generator: The generator.
        num_resolutions: Resolutions of the generator that are the authors'. Each but one adds a style vector that
            nothing uses but that the code counts, for path lengths and for style mixing.
        channel_base: Of the discriminator; None for the configuration's. For 48 pixels it is chosen by us, and so is
            the halving of the map down to 3 pixels: the repository's discriminator takes powers of two only.
    """
    batch_size = max(min(4 * min(4096 // resolution, 32), 64), 4)
    channel_base = channel_base or (16384 if resolution < 512 else 32768)
    used = 1 + sum(step["kind"] in ("styled-attention", "modulated-conv") for step in generator["synthesis"])
    reserved = used + num_resolutions - 1
    return gan_spec(
        generator,
        discriminator(resolution, channel_base=channel_base, group_size=min(batch_size // 4, 4), clamp=CLAMP),
        batch_size=batch_size,
        gamma=0.0002 * resolution**2 / batch_size,
        ema_kimg=batch_size * 10 / 32,
        lr=0.0025 if resolution < 1024 else 0.002,
        path_length=2.0 * used / reserved,  # the code averages squares over all reserved vectors
        style_mixing=0.9 * (used - 1) / (reserved - 1),  # mixing from an unused vector on changes nothing
        augment_limit=0.7 if any(step.get("rank") for step in generator["synthesis"]) else 1.0,
    )


def mini_styleformer() -> Spec:
    """A small Styleformer, ours: handwritten digits at 16 px in minutes on two CPU cores."""
    optimizer = {"lr": 4e-3, "decay_fraction": 0.5}
    return GAN.Spec(
        generator=generator(8, (96, 64), (1, 1)) | {"z_dim": 64, "image_channels": 1},
        discriminator=discriminator(16, channel_base=512, channel_max=64, group_size=8),
        regularizers=[{"kind": "r1", "gamma": 1.0, "every": 8}],
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        ema={"half_life_kimg": 2.0},
        batch_size=16,
        kimg=31,
    )
