"""Presets for the data set `emoji` at 32 px, ours: one of each family of models, and a hybrid of several.

The sizes of most were chosen for an hour of two CPU cores; the unconditional hybrid and StyleGAN-T's are larger, for
minutes of a GPU. docs/emoji.md has the search that led to them, and results of short trainings.
"""

from __future__ import annotations

from typing import Any

from assemblies.gan import GAN
from assemblies.models.styleformer.architecture import generator as styleformer_generator
from assemblies.models.stylegan2.architecture import discriminator as convolutional_discriminator
from assemblies.models.stylegan_t.architecture import generator as stylegan_t_generator
from assemblies.models.stylenat.architecture import discriminator_spec as wavelet_discriminator
from assemblies.models.stylenat.architecture import generator_spec as stylenat_generator
from assemblies.models.vitgan.architecture import discriminator as vitgan_discriminator
from assemblies.models.vitgan.architecture import generator as vitgan_generator
from assemblies.multi_stage import MultiStage
from plugins.clip_towers import configuration
from registry import Spec

Step = dict[str, Any]

NUM_SUBGROUPS = 99
MAPPING: Step = {"kind": "mapping", "num_layers": 2}
DIFF_AUGMENT: Step = {"kind": "diffaugment", "policy": ["color", "translation"], "color_probability": 0.5}
TRANSLATION: Step = {"kind": "diffaugment", "policy": ["translation"], "translation_probability": 0.9}
R1: Step = {"kind": "r1", "gamma": 0.5, "every": 8}
WEAK_R1 = R1 | {"gamma": 0.1}
# of the two wider presets
LONG_TRAINING: dict[str, Any] = {"lr": 0.005, "augment": TRANSLATION, "half_life_kimg": 20.0}
# a CLIP for captions of at most 14 words, in open_clip's terms; images of 32 px are 64 patches
CLIP: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "patch_size": 4, "width": 96, "head_width": 32, "layers": 3},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def gan_spec(
    generator: Spec | Step,
    discriminator: Spec | Step | None = None,
    *,
    lr: float = 0.003,
    discriminator_lr: float | None = None,
    loss: str = "non-saturating",
    regularizers: tuple[Step | str, ...] = (R1,),
    augment: Step | None = DIFF_AUGMENT,
    half_life_kimg: float = 5.0,
    batch_size: int = 64,
    decay_fraction: float = 0.5,
    kimg: float = 200.0,
) -> Spec:
    """A GAN with the training that the presets share.

    Args:
        generator: The generator.
        discriminator: The discriminator; None for StyleGAN2's.
        lr: Learning rate of the generator.
        discriminator_lr: That of the discriminator; None for the same.
        loss: Kind of the loss.
        regularizers: The regularizers.
        augment: The augmentation; None for none.
        half_life_kimg: Half-life of the average of the generator's weights, in thousands of images.
        batch_size: Images per step.
        decay_fraction: Part of the training at its end, however long, over which both rates fall to zero.
        kimg: Length, in thousands of images.
    """
    if discriminator is None:
        discriminator = convolutional_discriminator(32, channel_base=1024, channel_max=128, group_size=8)
    adam = {"betas": (0.0, 0.99), "decay_fraction": decay_fraction}
    return GAN.Spec(
        generator=generator,
        discriminator=discriminator,
        loss=loss,
        regularizers=regularizers,
        augment=augment,
        generator_optimizer=adam | {"lr": lr},
        discriminator_optimizer=adam | {"lr": discriminator_lr or lr},
        ema={"half_life_kimg": half_life_kimg, "ramp_up": 0.1},
        batch_size=batch_size,
        kimg=kimg,
    )


def emoji_stylenat_32() -> Spec:
    """A small StyleNAT for emoji at 32 px: Hydra attention from 8 px on, wavelet discriminator."""
    dilations = [[1], [1, 2], [1, 4], [1, 8]]
    small = {"style_dim": 64, "n_mlp": 2, "in_channels": [128, 128, 64, 32], "min_heads": 2, "mlp_ratio": 2}
    return gan_spec(
        stylenat_generator({"size": 32, "kernels": [[3]] * 4, "dilations": dilations, **small}),
        wavelet_discriminator({"size": 32, "channels": {4: 128, 8: 128, 16: 64, 32: 32}, "sn": True}),
        lr=0.002,
        kimg=160.0,
    )


def emoji_styleformer_32() -> Spec:
    """A small Styleformer for emoji at 32 px: attention to all pixels up to 32x32."""
    return gan_spec(
        styleformer_generator(8, (128, 96, 64), (1, 2, 1)) | {"z_dim": 64, "mapping": MAPPING},
        kimg=140.0,
    )


def emoji_vitgan_32() -> Spec:
    """A small ViTGAN for emoji at 32 px: transformers over patches of 4 px on both sides."""
    augment = DIFF_AUGMENT | {"policy": ["translation", "color"], "translation_probability": 0.8}
    return gan_spec(
        vitgan_generator(
            32,
            patch_size=4,
            depth=3,
            dim=128,
            num_heads=4,
            mapping_layers=2,
            hidden_dims=(64, 64),
            head_mapping_layers=0,
            noise=False,
            weight_init=0.3,
        ),
        vitgan_discriminator(
            patch_size=4,
            depth=3,
            overlap=2,
            dim=128,
            num_heads=4,
            scale=1 / 32,  # of heads of 32 features
            pos_init=0.5,  # as mini-vitgan's
        ),
        regularizers=({"kind": "bcr", "lambda_real": 5.0, "lambda_fake": 5.0, "augment": augment},),
        augment=augment,
        discriminator_lr=0.006,
        kimg=180.0,
    )


def emoji_stylegan_t_32(condition: Step | None = None, kimg: float = 200.0) -> Spec:
    """A small StyleGAN-T for captions of emoji at 32 px; its text tower has random weights, which need no download.

    Args:
        condition: The text encoder; None for a tower of random weights, which is part of the model.
        kimg: Length, in thousands of images.
    """
    condition = condition or {"kind": "open-clip-text", "model": CLIP, "embed_weights": True}
    cond_dim = configuration(condition["model"])["embed_dim"]
    size = {"z_dim": 64, "channel_base": 2048, "channel_max": 192, "num_pairs": 1, "num_groups": 16}
    generator = stylegan_t_generator(32, condition=condition, cond_dim=cond_dim, **size)
    head: Step = {"mapping": {"kind": "mapping", "num_layers": 2}}
    return gan_spec(
        generator | {"mapping": {"kind": "bypass-mapping", "normalize_c": True}},
        convolutional_discriminator(32, channel_base=2048, channel_max=256, group_size=8, head=head),
        regularizers=(WEAK_R1, "matching-aware"),
        kimg=kimg,
        **LONG_TRAINING,
    )


def emoji_hybrid_32() -> Spec:
    """A hybrid for emoji at 32 px: StyleGAN2's convolutions at 4, 8 and 32 px, StyleNAT's Hydra attention at 16 px."""
    return gan_spec(
        {"kind": "layered", "z_dim": 64, "mapping": MAPPING, "synthesis": hybrid_steps(32, (192, 128, 64))},
        convolutional_discriminator(32, channel_base=2048, channel_max=256, group_size=8),
        regularizers=(WEAK_R1,),
        **LONG_TRAINING,
    )


def emoji_hybrid_32_conditional() -> Spec:
    """A smaller hybrid for the 99 subgroups of emoji: trained at 16 px, then both networks grow to 32 px."""
    # few images overfit at 16 px, where no augmentation was best; at 32 px its strength follows the discriminator
    untouched = {"xflip": 0, "rotate90": 0, "lumaflip": 0, "hue": 0}
    ada: Step = {"kind": "ada", "policy": ["blit", "color"], "probability": untouched, "limit": 0.7, "kimg": 60}
    low = conditional_hybrid(16, lr=0.006, gamma=0.01, half_life_kimg=2.0, decay_fraction=0.0, kimg=30.0)
    high = conditional_hybrid(32, lr=0.004, gamma=0.05, half_life_kimg=4.0, augment=ada, kimg=100.0)
    return MultiStage.Spec(stages=[{"name": "16px", "gan": low}, {"name": "32px", "gan": high}])


def conditional_hybrid(size: int, *, gamma: float, augment: Step | None = None, **training: Any) -> Spec:
    """A hybrid with the subgroups of emoji as classes of both networks.

    Args:
        size: Height and width of the images.
        gamma: Weight of R1.
        augment: The augmentation; None for none.
        training: Learning rate, length and average.
    """
    generator: Step = {
        "kind": "layered",
        "z_dim": 64,
        "mapping": MAPPING,
        "synthesis": hybrid_steps(size, (96, 96, 48)),
    }
    head: Step = {"mapping": {"kind": "mapping", "num_layers": 2}}
    return gan_spec(
        generator | {"condition": {"kind": "class-labels", "num_classes": NUM_SUBGROUPS}},
        convolutional_discriminator(size, channel_base=1024, channel_max=128, group_size=8, head=head),
        regularizers=(R1 | {"gamma": gamma},),
        augment=augment,
        batch_size=32,
        **training,
    )


def hybrid_steps(size: int, dims: tuple[int, int, int]) -> list[Step]:
    """StyleGAN2's convolutions at 4 and 8 px, StyleNAT's Hydra attention with ViTGAN's norm at 16, convolutions at 32.

    Args:
        size: 16 or 32 px.
        dims: Channels up to 8 px, at 16 and at 32 px.
    """
    conv: Step = {"kind": "modulated-conv", "dim": dims[0]}
    top = conv | {"dim": dims[2]}
    sln: Step = {"kind": "sln", "gain_init": 1.0}  # ViTGAN's norm
    to_rgb: Step = {"kind": "to-rgb", "modulation": "modulate", "weight_init": 0.2}
    block: Step = {
        "kind": "transformer",
        "norm": sln,
        "attention": {"kind": "hydra-na", "num_heads": 4, "kernel_sizes": [3], "dilations": [1, 2], "equalized": True},
        "feed_forward": {"kind": "mlp", "mlp_ratio": 2, "equalized": True},
        "layer_scale": 0.3,
        "repeat": 2,
    }
    upsample: Step = {"kind": "upsample-linear", "dim": dims[1], "equalized": True}
    return [
        *({"kind": "constant", "resolution": 4, "dim": dims[0]}, conv, to_rgb),
        *(conv | {"up": 2}, conv, to_rgb),
        *(upsample, block, {"kind": "norm", "norm": sln}, to_rgb),
        *([top | {"up": 2}, top, to_rgb] if size == 32 else []),
    ]


PRESETS = (
    emoji_hybrid_32,
    emoji_hybrid_32_conditional,
    emoji_stylegan_t_32,
    emoji_styleformer_32,
    emoji_stylenat_32,
    emoji_vitgan_32,
)
