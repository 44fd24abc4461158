"""ViTGAN: the paper's models with transformers on both sides, the authors' code, and a small one.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589; the authors' code: mlpc-ucsd/ViTGAN at d57078e.

"Unverified" marks a value that is from memory: the paper's text was not at hand. "Ours" marks a value of which we know
no source.
"""

from __future__ import annotations

from assemblies.gan import GAN
from assemblies.models.vitgan.architecture import Options, discriminator, generator
from assemblies.models.vitgan.official import architecture as authors
from registry import Spec

__all__ = [
    "mini_vitgan",
    "vitgan_bedroom_64",
    "vitgan_bedroom_128",
    "vitgan_celeba_64",
    "vitgan_cifar10_32",
    "vitgan_official_cifar10_32",
    "vitgan_official_inr_cifar10_32",
]

# the paper: each function with probability 0.8
DIFF_AUGMENT: Options = {
    "kind": "diffaugment",
    "policy": ["translation", "color", "cutout", "resize"],
    "translation_probability": 0.8,
    "color_probability": 0.8,
    "cutout_probability": 0.8,
    "resize_probability": 0.8,
}
# the authors' code: their DiffAugment flips after it shifts
OFFICIAL_DIFF_AUGMENT: Options = {
    "kind": "diffaugment",
    "policy": ["color", "translation", "flip", "cutout"],
    "color_probability": 0.8,
    "translation_probability": 0.8,
    "flip_probability": 0.45,
    "cutout_probability": 0.3,
    "cutout_ratio": 0.5,
}


def paper(resolution: int, *, patch_size: int, depth: int) -> Spec:
    """The paper's networks with the paper's training."""
    adam = {"lr": 0.002, "betas": (0.0, 0.99)}  # unverified, both
    return GAN.Spec(
        generator=generator(resolution, patch_size=patch_size, depth=depth),
        discriminator=discriminator(patch_size=patch_size, depth=depth),
        loss="non-saturating",  # the paper
        # the paper: lambda 10 and 10, against the clean image; R1 is for the CNN discriminator only (unverified)
        regularizers=[{"kind": "bcr", "lambda_real": 10.0, "lambda_fake": 10.0, "augment": DIFF_AUGMENT}],
        augment=DIFF_AUGMENT,  # the paper
        generator_optimizer=adam,
        discriminator_optimizer=adam,
        ema={"half_life_kimg": 10.0, "ramp_up": None},  # an average: the paper; its length: ours, as StyleGAN2's
        batch_size=128,  # unverified
        kimg=50_000.0,  # ours: about as many images as the authors' code shows
    )


def vitgan_cifar10_32() -> Spec:
    """ViTGAN of the paper for CIFAR-10 at 32 px, transformers on both sides; FID 6.66."""
    return paper(32, patch_size=4, depth=4)


def vitgan_celeba_64() -> Spec:
    """ViTGAN of the paper for faces (CelebA) at 64 px, transformers on both sides; FID 3.74."""
    return paper(64, patch_size=8, depth=6)  # depth: unverified


def vitgan_bedroom_64() -> Spec:
    """ViTGAN of the paper for bedrooms (LSUN) at 64 px, transformers on both sides."""
    return paper(64, patch_size=8, depth=6)  # depth: unverified


def vitgan_bedroom_128() -> Spec:
    """ViTGAN of the paper for bedrooms (LSUN) at 128 px, 256 tokens; patches of 8 px are unverified."""
    return paper(128, patch_size=8, depth=6)  # both unverified


def official(*, inr: bool) -> Spec:
    """The authors' code as their README runs it on CIFAR-10 (configs/gan/stylegan2/c10_style64.gin).

    Differences: queries, keys and values have no bias, which the authors' code adds and trains although its `use_bias`
    is false; the discriminator gets real and generated images separately, as in their code on two GPUs; a resumed run
    keeps the initial singular values of improved spectral norm.
    """
    adam = {
        "lr": 0.001,  # c10_style64.gin
        "betas": (0.0, 0.99),  # c10_style64.gin
        "warmup_kimg": 192.0,  # README: --use_warmup; 3,000 steps by default in the code
    }
    return GAN.Spec(
        generator=authors.generator_spec({"size": 32, "use_nerf_proj": inr, "qkv_bias": False}),
        discriminator=authors.discriminator_spec({"size": 32, "projections": False}),
        loss="non-saturating",  # c10_style64.gin
        regularizers=[
            {"kind": "r1", "gamma": 0.1},  # README: --lbd_r1=0.1, of which half is the weight; every step
            {  # README: --penalty=bcr; both weights 1 by default in the code, which compares two augmented views
                "kind": "bcr",
                "lambda_real": 1.0,
                "lambda_fake": 1.0,
                "view": "two-views",
                "augment": OFFICIAL_DIFF_AUGMENT,
            },
        ],
        augment=OFFICIAL_DIFF_AUGMENT,  # README: --mode=aug_both --aug=diffaug
        generator_optimizer=adam,
        discriminator_optimizer=adam,
        # README: --halflife_k=1000; for the first 1000 kimg the code copies the weights
        ema={"half_life_kimg": 1000.0, "start_kimg": 1000.0, "ramp_up": None},
        batch_size=64,  # c10_style64.gin
        kimg=51_200.0,  # c10_style64.gin: 800,000 steps
        flip=True,  # c10_style64.gin: cifar10_hflip
    )


def vitgan_official_cifar10_32() -> Spec:
    """ViTGAN of the authors' code for CIFAR-10: convolutional patches, StyleGAN2's discriminator."""
    return official(inr=False)


def vitgan_official_inr_cifar10_32() -> Spec:
    """ViTGAN of the authors' code for CIFAR-10: implicit patches, StyleGAN2's discriminator."""
    return official(inr=True)


def mini_vitgan() -> Spec:
    """A small ViTGAN, ours: handwritten digits at 16 px in minutes on two CPU cores."""
    # higher rates than any paper's: with equalised learning rate, 0.002 hardly changes the weights in 3,000 steps
    adam = {"betas": (0.0, 0.99), "decay_fraction": 0.5}
    augment = DIFF_AUGMENT | {"policy": ["translation"], "translation_ratio": 1 / 16}
    network = generator(
        16,
        patch_size=4,
        depth=2,
        dim=64,
        num_heads=4,
        mapping_layers=2,
        hidden_dims=(64, 64),
        head_mapping_layers=0,
        noise=False,
        weight_init=0.3,
        image_channels=1,
    )
    judge = discriminator(
        patch_size=4,
        depth=3,
        overlap=2,
        dim=64,
        num_heads=4,
        scale=1 / 16,  # of heads of 16 features
        pos_init=0.5,  # about as large as patches; with small positions, LayerNorm removes the contrast of a patch
    )
    bcr = {"kind": "bcr", "lambda_real": 5.0, "lambda_fake": 5.0, "augment": augment}
    return GAN.Spec(
        generator=network,
        discriminator=judge,
        regularizers=[bcr],
        augment=augment,
        generator_optimizer=adam | {"lr": 0.004},
        discriminator_optimizer=adam | {"lr": 0.008},
        ema={"half_life_kimg": 1.5, "ramp_up": 0.25},
        batch_size=16,
        kimg=45.0,
    )
