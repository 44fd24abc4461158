"""StyleNAT, and StyleSwin, which it is based on, with their training values.

StyleNAT, Walton et al. 2022, https://arxiv.org/abs/2211.05770; StyleSwin, Zhang et al. 2021,
https://arxiv.org/abs/2112.10762. "File" is the authors' only published configuration, runs/ffhq_256.yaml; [unverified]
marks values that are in no publication of the model itself.

Three things of the authors' code are not reproduced: it loads a second batch of real images in each step and does not
use it; the discriminator's step computes gradients of the generator, which are discarded; and the discriminator's rate
rises by 6 % when the decay begins, because the decay omits the correction for the lazy penalty.
"""

from __future__ import annotations

from typing import Any

from assemblies.gan import GAN
from assemblies.models.stylenat.architecture import discriminator_spec, generator_spec
from registry import Spec

__all__ = ["mini_stylenat", "stylenat_church_256", "stylenat_ffhq_256", "stylenat_ffhq_1024", "styleswin_ffhq_256"]

STYLES = {"style_dim": 512, "n_mlp": 8, "lr_mlp": 0.01}  # file
SEVENS = [[7]] * 9  # file; one entry for each resolution from 4 px up; the first has no effect
TWO_WAY = [[1], [1], *([1, 1 << step] for step in range(1, 8))]  # file
PYRAMID = [[1], [1], *([1 << step for step in range(last + 1)] for last in range(1, 6))]
# The authors' code: brightness, saturation and contrast are changed in the ImageNet-normalised range.
COPIES = {"kind": "diffaugment", "policy": ["flip", "translation", "color", "cutout"], "cutout_ratio": 0.5}
CONSISTENCY = {"kind": "bcr", "lambda_real": 10.0, "lambda_fake": 10.0, "augment": COPIES, "augment_range": "generator"}


def stylenat_ffhq_256() -> Spec:
    """StyleNAT for faces (FFHQ) at 256 px: half of the heads have dilated windows; FID 2.05 in 60 million images."""
    return gan_spec(
        {"size": 256, "kernels": SEVENS, "dilations": TWO_WAY},
        batch_size=64,  # 8 on each GPU: file; 8 GPUs: issue 10 of the repository
        steps=1_000_000,  # file; the published weights are of step 940,000
        decay_steps=225_000,  # file: from step 775,000 on
        consistency=True,  # file
        flip=True,  # file
    )


def stylenat_ffhq_1024() -> Spec:
    """StyleNAT for faces (FFHQ) at 1024 px: half of the heads have dilated windows; FID 4.17."""
    return gan_spec(
        {"size": 1024, "kernels": SEVENS, "dilations": TWO_WAY},
        batch_size=16,  # [unverified] this and what follows: StyleSwin's run at 1024 px (8 GPUs, 2 images each)
        steps=800_000,
        decay_steps=200_000,
        flip=False,
    )


def stylenat_church_256() -> Spec:
    """StyleNAT for churches (LSUN) at 256 px: up to six partitions of the heads, dilations up to 32; FID 3.40."""
    return gan_spec(
        # [unverified] heads and dilations are those of the paper as quoted in issue 18 of its repository.
        {"size": 256, "min_heads": 8, "kernels": SEVENS, "dilations": PYRAMID},
        batch_size=32,  # [unverified] this and what follows: StyleSwin's run on churches (8 GPUs, 4 images each)
        steps=1_500_000,
        decay_steps=200_000,
        gamma=5.0,
        flip=True,
    )


def styleswin_ffhq_256() -> Spec:
    """StyleSwin for faces (FFHQ) at 256 px: half of the heads in shifted windows; FID 2.81."""
    return gan_spec(
        {"size": 256, "block_type": "swin"},
        batch_size=32,  # [unverified] this and what follows: 8 GPUs as for churches, and StyleNAT's schedule
        steps=1_000_000,
        decay_steps=225_000,
        consistency=True,
        clip_norm=None,
        flip=True,
    )


def mini_stylenat() -> Spec:
    """A StyleNAT of 16 px that learns handwritten digits in minutes on two CPU cores."""
    kernels, dilations = [[3]] * 3, [[1], [1, 2], [1, 4]]
    small = {"style_dim": 64, "n_mlp": 2, "in_channels": [96, 64, 48], "min_heads": 2, "mlp_ratio": 2}
    optimizer = {"lr": 2e-3, "decay_kimg": 4}
    return GAN.Spec(
        generator=generator_spec({"size": 16, "kernels": kernels, "dilations": dilations, **small}),
        discriminator=discriminator_spec({"size": 16, "channels": {4: 96, 8: 96, 16: 48}, "sn": True}),
        regularizers=[{"kind": "r1", "gamma": 1.0, "every": 8}],
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        ema={"half_life_kimg": 2.0},
        batch_size=32,
        kimg=12,
    )


def gan_spec(
    options: dict[str, Any],
    *,
    batch_size: int,
    steps: int,
    decay_steps: int,
    flip: bool,
    gamma: float = 10.0,
    consistency: bool = False,
    clip_norm: float | None = 5.0,  # the authors' code
) -> Spec:
    """A GAN with StyleNAT's training.

    Args:
        options: The reference's options of the generator, beside the style's.
        batch_size: Images per step, over all GPUs.
        steps: Length, in steps.
        decay_steps: Steps at the end over which the learning rates fall linearly to 0.
        flip: Whether half of the real images are mirrored.
        gamma: Weight of R1.
        consistency: Whether there is balanced consistency.
        clip_norm: Largest norm of the discriminator's gradients; None for none.
    """
    thousands = batch_size / 1000
    penalty = {"kind": "r1", "gamma": gamma, "every": 16}  # file
    rate = {"betas": (0.0, 0.99), "decay_kimg": decay_steps * thousands}  # file
    return GAN.Spec(
        generator=generator_spec(STYLES | options),
        discriminator=discriminator_spec({"size": options["size"], "sn": True}),  # file
        loss="non-saturating",
        regularizers=[penalty, CONSISTENCY] if consistency else [penalty],
        # a quarter of the discriminator's: ttur, with which the file's 4e-5 has no effect
        generator_optimizer={"lr": 5e-5, **rate},
        discriminator_optimizer={"lr": 2e-4, "clip_norm": clip_norm, **rate},  # file
        # The authors' code: 0.5 ** (32 / 10,000) at each step, for every batch size and from the first step on.
        ema={"half_life_kimg": 312.5 * thousands, "ramp_up": None},
        batch_size=batch_size,
        kimg=steps * thousands,
        flip=flip,
        resize_filter="bilinear",  # the authors' code: torchvision's default
    )
