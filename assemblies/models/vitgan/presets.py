"""ViTGAN: vision transformers on both sides, as the paper has it, as its authors published it, and as one to play with.

ViTGAN, Lee et al. 2021, https://arxiv.org/abs/2107.04589; the authors' code: mlpc-ucsd/ViTGAN at d57078e.

"Unverified" beside a value: the paper's text was not at hand when this was written, and the value is from memory.
Where the paper says nothing that we know, "ours" stands there.
"""

from __future__ import annotations

from typing import Any, Literal

from assemblies.gan import GAN
from assemblies.models.vitgan import architecture as published
from registry import Spec

Options = dict[str, Any]

# the paper: regularizers by augmentation, each function with probability 0.8
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


def generator(
    resolution: int,
    *,
    patch_size: int,
    depth: int,
    dim: int = 384,  # the paper; ViT-Small
    num_heads: int = 6,  # the paper
    mapping_layers: int = 8,  # the authors' code
    styles: Literal["sln", "add"] = "sln",
    gain_init: float = 0.0,  # the paper as printed
    image_head: Literal["inr", "linear"] = "inr",
    hidden_dims: tuple[int, ...] = (512, 512, 512),  # the authors' code; the paper's network has one (unverified)
    readout_mapping_layers: int = 4,  # the authors' code
    noise: bool = True,  # the authors' code
    weight_init: float = 1.0,
    image_channels: int = 3,
) -> Options:
    """The paper's generator: tokens of Fourier features, blocks before which the style normalises, implicit patches.

    Args:
        resolution: Height and width of the images.
        patch_size: Side of a patch.
        depth: Transformer blocks.
        dim: Features of a token.
        num_heads: Heads of an attention.
        mapping_layers: Layers of the mapping from z to w.
        styles: "sln" lets w normalise the tokens; "add" adds it to them, what the paper compares with.
        gain_init: What the gains that w gives start around.
        image_head: "inr", or "linear", what the paper compares with.
        hidden_dims: Widths of the implicit networks.
        readout_mapping_layers: Layers that a token passes before it modulates an implicit network.
        noise: Whether implicit networks get noise.
        weight_init: Standard deviation of the colours' weights at first.
        image_channels: Channels of the image.
    """
    norm: Options = {"kind": "sln", "gain_init": gain_init} if styles == "sln" else {"kind": "layer-norm"}
    block: Options = {
        "kind": "transformer",
        "norm": norm,
        "attention": {"kind": "dense", "num_heads": num_heads, "qkv_bias": False, "equalized": True},
        "feed_forward": {"kind": "mlp", "equalized": True},  # equalised learning rate: unverified
        "repeat": depth,
    }
    patches: Options = {"kind": "linear-patches", "patch_size": patch_size}
    if image_head == "inr":
        patches = {
            "kind": "inr-patches",
            "patch_size": patch_size,
            "hidden_dims": list(hidden_dims),
            "mapping_layers": readout_mapping_layers,
            "noise": noise,
            "weight_init": weight_init,
        }
    tokens: Options = {"kind": "learned-tokens", "dim": dim, "resolution": resolution // patch_size}
    return {
        "kind": "layered",
        "z_dim": dim,  # the authors' code
        "mapping": {"kind": "mapping", "num_layers": mapping_layers},
        "synthesis": [
            tokens | {"latent": "none" if styles == "sln" else "add"},
            block,
            {"kind": "norm", "norm": norm},
            patches,
        ],
        "image_channels": image_channels,
    }


def discriminator(
    *,
    patch_size: int,
    depth: int,
    overlap: int | None = None,
    dim: int = 384,  # the paper; ViT-Small
    num_heads: int = 6,  # the paper
    attention: Literal["l2", "dense"] = "l2",
    scale: float | None = None,
    pos_init: float | None = None,
    improved_spectral_norm: bool = True,
) -> Options:
    """The paper's discriminator: overlapping patches, attention by distances, improved spectral norm, a class token.

    Args:
        patch_size: Side of a patch.
        depth: Transformer blocks.
        overlap: Margin around each patch; half a patch by default.
        dim: Features of a token.
        num_heads: Heads of an attention.
        attention: "l2", or "dense", the usual products, what the paper compares with.
        scale: What distances are multiplied by, where attention has equalised learning rate; None for the paper's
            head_dim ** -0.5 and weights that start small, as vision transformers' do. With weights of unit variance
            every token would see itself alone at first, and so would the class token (measured: 99.99 %).
        pos_init: Standard deviation of the positions at the start; None for vision transformers' 0.02.
        improved_spectral_norm: Whether weights keep the spectral norm that they start with.
    """
    heads: Options = {"kind": attention, "num_heads": num_heads, "qkv_bias": False, "equalized": True}
    if attention == "l2":
        heads |= {"equalized": scale is not None, "scale": scale}
    steps: list[Options] = [
        {
            "kind": "overlapping-patches",
            "dim": dim,
            "patch_size": patch_size,
            "overlap": patch_size // 2 if overlap is None else overlap,  # unverified
            "pos_init": pos_init,
            "class_token": True,
        },
        {
            "kind": "transformer",
            "attention": heads,
            "feed_forward": {"kind": "mlp", "equalized": True},
            "repeat": depth,
        },
        {"kind": "class-token"},  # one linear map: unverified
    ]
    norm = {"kind": "improved-spectral-norm", "sigma": "tracked"} if improved_spectral_norm else None
    return {"kind": "layered", "steps": steps, "weight_norm": norm}


def paper(resolution: int, *, patch_size: int, depth: int) -> Spec:
    """The paper's networks with the paper's training."""
    adam = {"lr": 0.002, "betas": (0.0, 0.99)}  # unverified, both
    return GAN.Spec(
        generator=generator(resolution, patch_size=patch_size, depth=depth),
        discriminator=discriminator(patch_size=patch_size, depth=depth),
        loss="non-saturating",  # the paper
        # the paper: lambda 10 and 10 against the image itself; R1 is for the CNN discriminator only (unverified)
        regularizers=[{"kind": "bcr", "lambda_real": 10.0, "lambda_fake": 10.0, "augment": DIFF_AUGMENT}],
        augment=DIFF_AUGMENT,  # the paper
        generator_optimizer=adam,
        discriminator_optimizer=adam,
        ema={"half_life_kimg": 10.0, "ramp_up": None},  # that there is one: the paper; its length: ours, StyleGAN2's
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

    Where ours differs: attention has no bias that it was told not to have (theirs adds one, and trains it); real and
    generated images pass the discriminator one after the other, as on theirs with two GPUs; improved spectral norm
    restores its singular value exactly after a break.
    """
    adam = {
        "lr": 0.001,  # c10_style64.gin
        "betas": (0.0, 0.99),  # c10_style64.gin
        "warmup_kimg": 192.0,  # README: --use_warmup; 3,000 steps by default in the code
    }
    return GAN.Spec(
        generator=published.generator_spec({"size": 32, "use_nerf_proj": inr, "qkv_bias": False}),
        discriminator=published.discriminator_spec({"size": 32, "projections": False}),
        loss="non-saturating",  # c10_style64.gin
        regularizers=[
            {"kind": "r1", "gamma": 0.1},  # README: --lbd_r1=0.1, half of which weighs; every step
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
        # README: --halflife_k=1000; by default in the code, weights are copied for as many images first
        ema={"half_life_kimg": 1000.0, "start_kimg": 1000.0, "ramp_up": None},
        batch_size=64,  # c10_style64.gin
        kimg=51_200.0,  # c10_style64.gin: 800,000 steps
    )


def vitgan_official_cifar10_32() -> Spec:
    """ViTGAN of the authors' code for CIFAR-10: convolutional patches, StyleGAN2's discriminator."""
    return official(inr=False)


def vitgan_official_inr_cifar10_32() -> Spec:
    """ViTGAN of the authors' code for CIFAR-10: implicit patches, StyleGAN2's discriminator."""
    return official(inr=True)


def mini_vitgan(
    *,
    attention: Literal["l2", "dense"] = "l2",
    improved_spectral_norm: bool = True,
    overlap: int = 2,
    consistency: bool = True,
    styles: Literal["sln", "add"] = "sln",
    image_head: Literal["inr", "linear"] = "inr",
    kimg: float = 48.0,
) -> Spec:
    """A small ViTGAN, ours: handwritten digits at 16 px in minutes on two CPU cores."""
    # faster than any paper's: with equalised learning rate a rate of 0.002 hardly moves weights in 3,000 steps
    course = {"betas": (0.0, 0.99), "decay_kimg": kimg / 2}  # the same at any length
    augment = DIFF_AUGMENT | {"policy": ["translation"], "translation_ratio": 1 / 16}
    made = generator(
        16,
        patch_size=4,
        depth=2,
        dim=64,
        num_heads=4,
        mapping_layers=2,
        styles=styles,
        image_head=image_head,
        hidden_dims=(64, 64),
        readout_mapping_layers=0,
        noise=False,
        weight_init=0.3,
        image_channels=1,
    )
    judged = discriminator(
        patch_size=4,
        depth=3,
        overlap=overlap,
        dim=64,
        num_heads=4,
        attention=attention,
        scale=1 / 16,  # of heads of 16 features
        pos_init=0.5,  # about as large as patches: beside small positions LayerNorm divides a patch's contrast out
        improved_spectral_norm=improved_spectral_norm,
    )
    bcr = {"kind": "bcr", "lambda_real": 5.0, "lambda_fake": 5.0, "augment": augment}
    return GAN.Spec(
        generator=made,
        discriminator=judged,
        regularizers=[bcr] if consistency else [],
        augment=augment,
        generator_optimizer=course | {"lr": 0.004},
        discriminator_optimizer=course | {"lr": 0.008},
        ema={"half_life_kimg": 1.5, "ramp_up": 0.25},
        batch_size=16,
        kimg=kimg,
    )
