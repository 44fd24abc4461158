"""StyleGAN-T: text to image at 64 pixels and above, in the paper's size and in the light size of its ablations.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515; the training in stages: section 3, and the published
code's README. Values that are no argument of a function are those of the published code's command line, which are the
same for all sizes. [P?] marks values of the paper from memory.
"""

from __future__ import annotations

from typing import Any

from assemblies.gan import GAN
from assemblies.models.stylegan2.architecture import Step
from assemblies.models.stylegan_t.architecture import FULL, LITE, discriminator, generator
from assemblies.multi_stage import MultiStage
from registry import Spec

__all__ = [
    "mini_stylegan_t",
    "stylegan_t_64",
    "stylegan_t_256",
    "stylegan_t_512",
    "stylegan_t_lite_64",
    "stylegan_t_lite_256",
    "stylegan_t_lite_512",
    "stylegan_t_lite_multi_stage_256",
    "stylegan_t_multi_stage_512",
]

CLIP: dict[str, Any] = {"model": "ViT-L-14", "weights": "openai"}
# 0.2 is the paper's weight in the first phase [P?]. The published code divides its adversarial loss, but not the
# guidance, by the images that a GPU has at once; with its 8 images the relative weight is 1.6.
GUIDANCE = 0.2 * 8
# The paper has far stronger guidance in the text encoder's phase [P?]; the code leaves it to the command line.
STRONG_GUIDANCE = 5 * GUIDANCE
TEXT_ENCODER_LR = 3e-6  # published code, training loop; the discriminator keeps its 0.002
# A resumed training has no ramp-up of the half-life (published code, training loop).
NO_RAMP_UP: dict[str, Any] = {"ramp_up": None}


def gan_spec(
    generator: dict[str, Any],
    discriminator: dict[str, Any],
    *,
    guidance: dict[str, Any] | None = None,
    batch_size: int = 128,
    kimg: float = 25000.0,
    lr: float = 0.002,
    ema_kimg: float | None = None,
    blur_sigma: float = 32.0,
    blur_kimg: float = 1000.0,
) -> Spec:
    """A GAN with StyleGAN-T's training.

    Args:
        generator: The generator.
        discriminator: The discriminator.
        guidance: Options of the guidance by CLIP; None for none.
        batch_size: Images per step, over all GPUs; 128 in the README's example, 2048 in the paper [P?].
        kimg: Length, in thousands of images.
        lr: Learning rate of both networks.
        ema_kimg: Half-life of the generator's average, in thousands of images; None for 10 per 32 images of the batch.
        blur_sigma: Sigma of the blur of the discriminator's input at the start, in pixels.
        blur_kimg: Thousands of images after which the blur has faded.
    """
    optimizer = {"lr": lr, "betas": (0.0, 0.99), "eps": 1e-8}
    augment: dict[str, Any] = {"kind": "diffaugment"}
    if blur_kimg > 1:
        augment = {"kind": "fading-blur", "init_sigma": blur_sigma, "fade_kimg": blur_kimg, "then": augment}
    return GAN.Spec(
        generator=generator,
        discriminator=discriminator,
        loss="hinge",  # no gradient penalty, no path length penalty, no style mixing
        regularizers=[] if guidance is None else [{"kind": "clip-guidance", **guidance}],
        augment=augment,
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        ema={"half_life_kimg": batch_size * 10 / 32 if ema_kimg is None else ema_kimg, "ramp_up": 0.05},
        batch_size=batch_size,
        kimg=kimg,
    )


def text_to_image(resolution: int, size: dict[str, int]) -> Spec:
    """The model of captions at a resolution."""
    condition = {"kind": "open-clip-text", **CLIP}
    network = generator(resolution, cond_dim=768, condition=condition, **size)
    return gan_spec(network, discriminator(), guidance={**CLIP, "weight": GUIDANCE})


def stylegan_t_lite_64() -> Spec:
    """StyleGAN-T, light (75 million parameters), captions to images of 64 px."""
    return text_to_image(64, LITE)


def stylegan_t_lite_256() -> Spec:
    """StyleGAN-T, light (86 million parameters), captions to images of 256 px."""
    return text_to_image(256, LITE)


def stylegan_t_lite_512() -> Spec:
    """StyleGAN-T, light (87 million parameters), captions to images of 512 px."""
    return text_to_image(512, LITE)


def stylegan_t_64() -> Spec:
    """StyleGAN-T (976 million parameters), captions to images of 64 px."""
    return text_to_image(64, FULL)


def stylegan_t_256() -> Spec:
    """StyleGAN-T (1.02 billion parameters), captions to images of 256 px."""
    return text_to_image(256, FULL)


def stylegan_t_512() -> Spec:
    """StyleGAN-T (1.02 billion parameters), captions to images of 512 px."""
    return text_to_image(512, FULL)


def multi_stage(resolution: int, size: dict[str, int]) -> Spec:
    """Three stages: 64 px, the layers above 64 px, the text encoder.

    Args:
        resolution: Height and width of the final images, 128 or more.
        size: Width and depth of the generator.
    """
    # the text tower is trained at the end, so it is a part of the model
    condition = {"kind": "open-clip-text", "embed_weights": True, **CLIP}
    low = generator(64, cond_dim=768, condition=condition, **size)
    high = generator(resolution, cond_dim=768, condition=condition, **size)

    def resumed(network: dict[str, Any], weight: float, **changes: Any) -> dict[str, Any]:
        document = gan_spec(network, discriminator(), guidance={**CLIP, "weight": weight}, blur_kimg=0.0).to_dict()
        return document | {name: document.get(name, {}) | value for name, value in changes.items()}

    first = gan_spec(low, discriminator(), guidance={**CLIP, "weight": GUIDANCE}).to_dict()
    grown = resumed(high, GUIDANCE, trainable={"mapping": False, "above": 64}, ema=NO_RAMP_UP)
    only_text_encoder = {"mapping": False, "synthesis": False, "condition": True, "above": 0}
    tuned = resumed(
        high,
        STRONG_GUIDANCE,
        trainable=only_text_encoder,
        generator_optimizer={"lr": TEXT_ENCODER_LR},
        ema=NO_RAMP_UP,
    )
    return MultiStage.Spec(
        stages=[
            {"name": "low", "gan": first},
            {"name": "high", "gan": grown},
            {"name": "text-encoder", "gan": tuned},
        ]
    )


def stylegan_t_lite_multi_stage_256() -> Spec:
    """StyleGAN-T, light, in three stages: 64 px, then the layers up to 256 px alone, then the text encoder alone."""
    return multi_stage(256, LITE)


def stylegan_t_multi_stage_512() -> Spec:
    """StyleGAN-T in three stages: 64 px, then the layers up to 512 px alone, then the text encoder alone."""
    return multi_stage(512, FULL)


def mini_stylegan_t(condition: dict[str, Any] | None = None, cond_dim: int = 10) -> Spec:
    """StyleGAN-T for the classes of the built-in digits at 16 px: trains in minutes on two CPU cores."""
    condition = condition or {"kind": "class-labels", "num_classes": cond_dim}
    size = {"channel_base": 512, "channel_max": 64, "num_pairs": 1, "num_groups": 8}
    network = generator(16, condition=condition, cond_dim=cond_dim, z_dim=32, **size)
    pool: Step = {"kind": "downsample", "method": "average"}
    optimizer = {"lr": 0.004, "decay_fraction": 0.5}
    return GAN.Spec(
        generator=network | {"image_channels": 1},
        # A frozen backbone would need a download, so this discriminator is trained from scratch. Hence it needs the
        # gradient penalty, which a discriminator over frozen features does without.
        discriminator={
            "kind": "layered",
            "steps": [
                {"kind": "from-rgb", "dim": 32},
                {"kind": "conv", "dim": 48},
                pool,
                {"kind": "conv", "dim": 64},
                pool,
                {"kind": "minibatch-std", "group_size": 8},
                {"kind": "conv", "dim": 96},
                {"kind": "linear", "hidden_dim": 96, "mapping": None},
            ],
        },
        loss="non-saturating",
        regularizers=[{"kind": "r1", "gamma": 0.5, "every": 8}],
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        ema={"half_life_kimg": 3.0},
        batch_size=32,
        kimg=28.0,
    )
