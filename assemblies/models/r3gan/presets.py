"""R3GAN: the presets of the authors' code, and a small one, ours, that learns digits.

R3GAN, Huang et al. 2024, https://arxiv.org/abs/2501.05441; the authors' code: brownvc/R3GAN at 19a7ddf.

"Unverified" marks a value that is from a third party's reading of the paper, whose text was not at hand. "Ours" marks a
value of which we know no source.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from assemblies.gan import GAN
from assemblies.models.r3gan.architecture import discriminator_spec, generator_spec
from registry import Spec

__all__ = [
    "mini_r3gan",
    "mini_r3gan_conditional",
    "r3gan_cifar10_32",
    "r3gan_ffhq_64",
    "r3gan_ffhq_256",
    "r3gan_imagenet_32",
    "r3gan_imagenet_64",
]

Z_DIM = 64  # train.py
GENERATOR_EMBEDDING = 64  # train.py
# train.py: the factors of the schedule's probability; no image filter, no noise
AUGMENT = {
    "kind": "ada",
    "policy": ["blit", "geometry", "color", "cutout"],
    "target": None,  # no adaptive control
    "probability": dict.fromkeys(("brightness", "contrast", "lumaflip", "hue", "saturation"), 0.5),
}


def networks(
    widths: list[int], groups: list[int], num_classes: int | None, num_blocks: list[int] | None = None
) -> dict[str, Any]:
    """Generator and discriminator of widths, groups and numbers of blocks at 4, 8, ... px; by default two blocks."""
    num_blocks = num_blocks or [2] * len(widths)
    args = {
        "ExpansionFactor": 2,
        "KernelSize": 3,
        "ResamplingFilter": [1, 2, 1],
        "ConditionDimension": num_classes,
    }
    stages = {"WidthPerStage": widths, "CardinalityPerStage": groups, "BlocksPerStage": num_blocks}
    generator = stages | {"NoiseDimension": Z_DIM}
    discriminator = {name: values[::-1] for name, values in stages.items()}
    return {
        "generator": generator_spec(args | generator | {"ConditionEmbeddingDimension": GENERATOR_EMBEDDING}),
        "discriminator": discriminator_spec(args | discriminator | {"ConditionEmbeddingDimension": widths[0]}),
    }


def cosine(init: float, final: float, kimg: float) -> dict[str, Any]:
    """A schedule that changes over `kimg` thousands of images."""
    return {"kind": "cosine", "init": init, "final": final, "kimg": kimg}


def r3gan(
    widths: list[int],
    groups: list[int],
    *,
    num_classes: int | None = None,
    batch_size: int,
    burn_in_kimg: float,
    gamma: float,
    augment_p: float,
    ema_kimg: float,
    kimg: float,
) -> Spec:
    """A document with the training of the authors' code.

    Args:
        widths: Channels at 4, 8, ... px.
        groups: Groups of the 3x3 convolutions there.
        num_classes: Number of classes; None for an unconditional GAN.
        batch_size: Images per step.
        burn_in_kimg: Thousands of images over which the schedules change.
        gamma: Weight of R1 and R2 at the start; a tenth of it at the end.
        augment_p: Probability of the augmentation at the end; 0 at the start.
        ema_kimg: Half-life of the average at the end; 0 at the start.
        kimg: Length of the training.
    """

    burn_in = partial(cosine, kimg=burn_in_kimg)
    adam = {"lr": burn_in(2e-4, 5e-5), "betas": [0.0, burn_in(0.9, 0.99)]}  # train.py, for all presets
    return GAN.Spec(
        **networks(widths, groups, num_classes),
        loss="relativistic",
        regularizers=[{"kind": kind, "gamma": burn_in(gamma, gamma / 10)} for kind in ("r1", "r2")],
        augment=AUGMENT | {"p": burn_in(0.0, augment_p)},
        generator_optimizer=adam,
        discriminator_optimizer=adam,
        ema={"half_life_kimg": burn_in(0.0, ema_kimg), "ramp_up": None},
        batch_size=batch_size,
        kimg=kimg,
        flip=True,  # --mirror in all published commands
    )


def r3gan_cifar10_32() -> Spec:
    """R3GAN for CIFAR-10 at 32 px, class-conditional; FID 1.96."""
    return r3gan(
        [768] * 4,  # train.py --preset=CIFAR10, as all following values without a remark
        [96] * 4,
        num_classes=10,
        batch_size=512,
        burn_in_kimg=20_000.0,
        gamma=0.05,
        augment_p=0.55,
        ema_kimg=5_000.0,
        kimg=250_000.0,  # unverified
    )


def r3gan_ffhq_64() -> Spec:
    """R3GAN for faces (FFHQ) at 64 px; FID 1.95."""
    return r3gan(
        [768, 768, 768, 768, 384],  # train.py --preset=FFHQ-64
        [96, 96, 96, 96, 48],
        batch_size=256,
        burn_in_kimg=20_000.0,
        gamma=2.0,
        augment_p=0.3,
        ema_kimg=500.0,
        kimg=100_000.0,  # unverified
    )


def r3gan_ffhq_256() -> Spec:
    """R3GAN for faces (FFHQ) at 256 px; FID 2.75."""
    return r3gan(
        [768, 768, 768, 768, 384, 192, 96],  # train.py --preset=FFHQ-256
        [96, 96, 96, 96, 48, 24, 12],
        batch_size=256,
        burn_in_kimg=20_000.0,
        gamma=150.0,
        augment_p=0.3,
        ema_kimg=500.0,
        kimg=200_000.0,  # unverified
    )


def r3gan_imagenet_32() -> Spec:
    """R3GAN for ImageNet at 32 px, class-conditional; FID 1.27."""
    return r3gan(
        [1536] * 4,  # train.py --preset=ImageNet-32
        [96] * 4,
        num_classes=1000,
        batch_size=4096,
        burn_in_kimg=200_000.0,
        gamma=0.5,
        augment_p=0.5,
        ema_kimg=50_000.0,
        kimg=1_000_000.0,  # unverified
    )


def r3gan_imagenet_64() -> Spec:
    """R3GAN for ImageNet at 64 px, class-conditional; FID 2.09."""
    return r3gan(
        [1536] * 5,  # train.py --preset=ImageNet-64
        [96] * 5,
        num_classes=1000,
        batch_size=4096,
        burn_in_kimg=200_000.0,
        gamma=1.0,
        augment_p=0.4,
        ema_kimg=50_000.0,
        kimg=1_000_000.0,  # unverified
    )


def mini_r3gan() -> Spec:
    """A small R3GAN, ours: handwritten digits at 16 px in minutes on two CPU cores."""
    # with one block at 4 px, as the conditional one, the digit score is more than twice as high after 36,000 images
    training: dict[str, Any] = {"gamma": (2.0, 0.5), "last_rate": 5e-5, "batch_size": 16, "kimg": 22.0}
    return mini([96, 48, 16], [4, 2, 1], output_activation="hardtanh", **training)


def mini_r3gan_conditional() -> Spec:
    """A small R3GAN, ours, with the classes of the digits, which smaller networks learn with fewer images."""
    training: dict[str, Any] = {"gamma": (6.0, 2.0), "last_rate": 2e-4, "batch_size": 32, "kimg": 20.0}
    return mini([96, 64, 16], [1, 1, 1], num_classes=10, **training)


def mini(
    widths: list[int],
    num_blocks: list[int],
    *,
    num_classes: int | None = None,
    output_activation: str = "linear",
    gamma: tuple[float, float],
    last_rate: float,
    batch_size: int,
    kimg: float,
) -> Spec:
    """A document for 16 px on a CPU: no augmentation, and a rate for narrow networks.

    Args:
        widths: Channels at 4, 8 and 16 px.
        num_blocks: Number of blocks there.
        num_classes: Number of classes; None for an unconditional GAN.
        output_activation: The generator's; with hardtanh the background of digits is plain black.
        gamma: Weights of R1 and R2 at the start and at the end.
        last_rate: Learning rate at the end.
        batch_size: Images per step.
        kimg: Length of the training and of the schedules.
    """
    adam = {"lr": cosine(1e-3, last_rate, kimg), "betas": [0.0, 0.99]}
    document = networks(widths, [width // 8 for width in widths], num_classes, num_blocks)
    condition = num_classes and {"kind": "class-labels", "num_classes": num_classes}
    return GAN.Spec(
        generator=document["generator"].to_dict() | {"condition": condition, "output_activation": output_activation},
        discriminator=document["discriminator"],
        loss="relativistic",
        regularizers=[{"kind": kind, "gamma": cosine(*gamma, kimg)} for kind in ("r1", "r2")],
        generator_optimizer=adam,
        discriminator_optimizer=adam,
        ema={"half_life_kimg": 1.0},
        batch_size=batch_size,
        kimg=kimg,
    )
