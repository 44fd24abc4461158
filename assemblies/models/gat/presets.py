"""GAT for ImageNet at 256 px, on latents [4,32,32] of Stable Diffusion's autoencoder; two small ones, ours, for digits.

GAT, https://arxiv.org/abs/2509.24935; the authors' code: hse1032/GAT at 21a2dd0. It publishes the script of the B/2
model only; the width rule makes the other models' rates of it.

"Unverified" marks a value that is not in the code. The decoder is the authors' default in sampling; the latents of
their trainings are those of stabilityai/sd-vae-ft-mse.
"""

from __future__ import annotations

import math
from typing import Any

from assemblies.discriminator import LayeredDiscriminator
from assemblies.gan import GAN
from assemblies.generator import LayeredGenerator
from assemblies.models.gat.architecture import (
    DECODER,
    discriminator_spec,
    discriminator_steps,
    generator_spec,
    generator_steps,
)
from registry import Spec

__all__ = ["gat_b", "gat_l", "gat_s", "gat_xl", "mini_gat", "mini_gat_conditional"]

BATCH_SIZE = 512  # the script
BASE_RATE, BASE_WIDTH = 2e-4, 768  # the script; the rate falls as the width grows
EMA_DECAY = 0.999  # per step
# the decay of mean styles per step, which the code tracks in the generator's step alone, and this trainer in both
MAPPING = {"kind": "class-mapping", "w_avg_beta": math.sqrt(0.995)}
IMAGENET_KIMG = 1_281.167
# latents: the functions and their order; the probabilities of colour and flips
AUGMENT = {
    "kind": "diffaugment",
    "policy": ["color", "translation", "cutout", "flip"],
    "color_probability": 0.5,
    "color_gate": "all",
    "color_reference": 4,  # channels of the finest level
    "cutout_ratio": 0.5,
    "flip_probability": 0.4,
}
ALIGNMENT = {
    "kind": "token-alignment",
    "teacher": {
        "kind": "timm",
        "network": "vit_base_patch14_dinov2.lvd142m",
        "image_size": 224,
        "depths": [12],
        "class_token": "first",
        "norm": True,
    },
    "proj_coeff": 1.0,
    "teacher_policy": ["translation", "flip"],
    "teacher_shift": "published",
}


def gat(depth: int, width: int, num_heads: int) -> Spec:
    """A document with the training of the authors' code.

    Args:
        depth: Number of blocks of each network.
        width: Features of a token.
        num_heads: Heads of the attention.
    """
    args = {
        "input_size": 32,
        "patch_size": 2,
        "in_channels": 4,
        "latent_size": 64,
        "cmap_dim": 2048,
        "hidden_size": width,
        "depth": depth,
        "num_heads": num_heads,
        "mlp_ratio": 4.0,
        "num_classes": 1000,
        "qk_norm": True,
        "z_dim": 768,
        "projector_dim": 2048,
    }
    rate = {"lr": BASE_RATE, "base_width": BASE_WIDTH, "width": width}
    adam = {**rate, "betas": [0.0, 0.99], "clip_norm": 1.0}  # AdamW without weight decay
    penalties = [{"kind": f"approximate-{kind}", "gamma": 0.1, "sigma": 0.01} for kind in ("r1", "r2")]
    return GAN.Spec(
        generator=generator_spec(args, DECODER, MAPPING),
        discriminator=discriminator_spec(args),
        loss="relativistic",
        same_latents=True,
        regularizers=[*penalties, ALIGNMENT],
        augment=AUGMENT,
        generator_optimizer=adam,
        discriminator_optimizer=adam,
        ema={"half_life_kimg": BATCH_SIZE * math.log(0.5) / math.log(EMA_DECAY) / 1000, "ramp_up": None},
        batch_size=BATCH_SIZE,
        kimg=60 * IMAGENET_KIMG,  # 60 epochs: the abstract, for XL/2; unverified for the others
    )


def gat_s() -> Spec:
    """GAT-S/2 for latents of ImageNet at 256 px, class-conditional."""
    return gat(12, 384, 6)


def gat_b() -> Spec:
    """GAT-B/2 for latents of ImageNet at 256 px, class-conditional."""
    return gat(12, 768, 12)


def gat_l() -> Spec:
    """GAT-L/2 for latents of ImageNet at 256 px, class-conditional."""
    return gat(24, 1024, 16)


def gat_xl() -> Spec:
    """GAT-XL/2 for latents of ImageNet at 256 px, class-conditional; FID 2.18."""
    return gat(28, 1152, 16)


def mini_gat() -> Spec:
    """A small GAT on pixels, ours: handwritten digits at 16 px in minutes on two CPU cores."""
    # 1.7 times the rate of the width rule
    return mini({"kind": "class-mapping"}, rate=4e-3, kimg=32.0)


def mini_gat_conditional() -> Spec:
    """A small GAT on pixels, ours, with the classes of the digits."""
    # What all images of a class have in common is learned faster than what z changes. With 64 features of the class, or
    # a mapping network that learns at the full rate, images often leave [-1,1] before the discriminator follows.
    return mini({"kind": "class-mapping", "embed_dim": 6}, num_classes=10, rate=3e-3, kimg=24.0)


def mini(mapping: dict[str, Any], *, num_classes: int | None = None, rate: float, kimg: float) -> Spec:
    """A document for 16 px on a CPU: two levels, exact penalties, no alignment.

    Args:
        mapping: The mapping network.
        num_classes: Number of classes; None for an unconditional GAN.
        rate: Learning rate at the start.
        kimg: Length of the training and of the schedules.
    """
    width = 64
    args = {"input_size": 16, "patch_size": 4, "hidden_size": width, "depth": 2, "num_heads": 4, "mlp_ratio": 4.0}
    args |= {"qk_norm": True, "cmap_dim": 32}
    # with the reference's gains an untrained generator's images reach far outside of [-1,1]
    synthesis = generator_steps(args, num_levels=2, modulation_gain=1.0, patch_gain=0.1)
    steps = discriminator_steps(args, num_levels=2, layer_scale=1.0)
    adam = {"lr": {"kind": "cosine", "init": rate, "final": 3e-4, "kimg": kimg}, "betas": [0.0, 0.99]}
    gamma = {"kind": "cosine", "init": 1.0, "final": 0.3, "kimg": kimg}
    return GAN.Spec(
        generator=LayeredGenerator.Spec(
            z_dim=64,
            w_dim=width,
            condition=num_classes and {"kind": "class-labels", "num_classes": num_classes},
            mapping=mapping,
            synthesis=[step for _, step in synthesis],
            image_channels=1,
            multi_level=True,
        ),
        discriminator=LayeredDiscriminator.Spec(steps=[step for _, step in steps]),
        loss="relativistic",
        regularizers=[{"kind": kind, "gamma": gamma} for kind in ("r1", "r2")],
        generator_optimizer=adam,
        discriminator_optimizer=adam,
        ema={"half_life_kimg": 1.0},
        batch_size=16,
        kimg=kimg,
    )
