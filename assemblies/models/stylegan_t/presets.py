"""StyleGAN-T: text to image at 64 pixels and above, in the paper's size and in the light one of its ablations.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515; values that are no argument are those of the published
code's command line, which are the same for all sizes.
"""

from __future__ import annotations

from typing import Any, Literal

from assemblies.gan import GAN
from assemblies.models.stylegan2.presets import Step, width
from registry import Spec

CLAMP = 256.0  # conv_clamp, for half precision
Z_DIM = 64
LITE: dict[str, int] = {"channel_base": 32768, "channel_max": 512, "num_pairs": 2}
FULL: dict[str, int] = {"channel_base": 65536, "channel_max": 2048, "num_pairs": 3}
CLIP: dict[str, Any] = {"model": "ViT-L-14", "weights": "openai"}
# 0.2 is the paper's weight in its first phase as it is remembered, [P?] not read again. The published code divides its
# adversarial loss, not the guidance, by the images that a GPU has at once; with its 8 that is 1.6 here
GUIDANCE = 0.2 * 8
Architecture = Literal["skip", "orig"]


def synthesis_steps(
    resolution: int,
    *,
    channel_base: int = LITE["channel_base"],
    channel_max: int = LITE["channel_max"],
    num_pairs: int = LITE["num_pairs"],
    num_groups: int = 32,
    architecture: Architecture = "skip",
    clamp: float | None = CLAMP,
) -> dict[str, Step]:
    """The generator's steps by the names that the published code gives its parts.

    Args:
        resolution: Height and width of the images, a power of two from 8 on.
        channel_base: Channels at a resolution, times the resolution.
        channel_max: Channels at most.
        num_pairs: Pairs of a plain and a residual convolution at each resolution.
        num_groups: Groups of the residual ones' group norms.
        architecture: "skip" adds to the image at each resolution, "orig" makes it at the last.
        clamp: Largest magnitude of a convolution's output.
    """
    steps: dict[str, Step] = {}
    for size in (1 << power for power in range(3, resolution.bit_length())):
        dim = width(size, channel_base, channel_max)
        conv: Step = {"kind": "modulated-conv", "dim": dim, "style_order": 2, "clamp": clamp}
        half = conv | {"gain": 0.5**0.5}
        if size == 8:
            steps["b8.input"] = {"kind": "fourier-features", "dim": dim}
        else:
            steps[f"b{size}.conv0"] = conv | {"up": 2}
        for pair in range(num_pairs):
            norm = {"kind": "group-norm", "num_groups": num_groups}
            steps[f"b{size}.convs1.{2 * pair}"] = half
            steps[f"b{size}.convs1.{2 * pair + 1}"] = {"kind": "residual", "norm": norm, "layer": half}
        if architecture == "skip" or size == resolution:
            steps[f"b{size}.torgb"] = {
                "kind": "to-rgb",
                "modulation": "modulate",
                "weight_init": 0.1,
                "style_order": 2,
                "clamp": clamp,
            }
    return steps


def generator(
    resolution: int, *, cond_dim: int = 0, condition: dict[str, Any] | None = None, z_dim: int = Z_DIM, **options: Any
) -> dict[str, Any]:
    """A generator of that condition, or of none.

    Args:
        resolution: Height and width of the images.
        cond_dim: Features of the condition: 768 of ViT-L-14's captions, or as many as there are classes.
        condition: What makes it of captions or classes.
        z_dim: Features of the latent, which share a style with the condition.
        options: Those of `synthesis_steps`.
    """
    return {
        "kind": "layered",
        "z_dim": z_dim,
        "w_dim": z_dim + cond_dim,
        "cond_dim": cond_dim,
        "condition": condition,
        "mapping": {"kind": "bypass-mapping"},
        "synthesis": list(synthesis_steps(resolution, **options).values()),
    }


def discriminator() -> dict[str, Any]:
    """Heads on the depths of DINO's small vision transformer, the same for all sizes and resolutions."""
    return {
        "kind": "projected",
        "networks": [{"kind": "timm", "network": "vit_small_patch16_224.dino", "depths": [3, 6, 9, 12, 0]}],
    }


def trained(
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
        batch_size: Images in a step, over all GPUs; the README's example has 128, the paper 2048 [P?].
        kimg: Length.
        lr: Trainable rate of both networks.
        ema_kimg: Half-life of the generator's average; None for 10 thousand images for each 32 in a step.
        blur_sigma: Of the blur on what the discriminator sees at first, in pixels.
        blur_kimg: Thousands of images over which it fades.
    """
    optimizer = {"lr": lr, "betas": (0.0, 0.99), "eps": 1e-8}
    augment: dict[str, Any] = {"kind": "diffaugment"}
    if blur_kimg > 1:
        augment = {"kind": "fading-blur", "init_sigma": blur_sigma, "fade_kimg": blur_kimg, "then": augment}
    return GAN.Spec(
        generator=generator,
        discriminator=discriminator,
        loss="hinge",  # no gradient penalty, no path length, no style mixing
        regularizers=[] if guidance is None else [{"kind": "clip-guidance", **guidance}],
        augment=augment,
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        ema={"half_life_kimg": batch_size * 10 / 32 if ema_kimg is None else ema_kimg, "ramp_up": 0.05},
        batch_size=batch_size,
        kimg=kimg,
    )


def of_captions(resolution: int, size: dict[str, int]) -> Spec:
    """The model of captions at a resolution."""
    condition = {"kind": "open-clip-text", **CLIP}
    made = generator(resolution, cond_dim=768, condition=condition, **size)
    return trained(made, discriminator(), guidance={**CLIP, "weight": GUIDANCE})


def stylegan_t_lite_64() -> Spec:
    """StyleGAN-T, light (75 million parameters), captions to images of 64 px."""
    return of_captions(64, LITE)


def stylegan_t_lite_256() -> Spec:
    """StyleGAN-T, light (86 million parameters), captions to images of 256 px."""
    return of_captions(256, LITE)


def stylegan_t_lite_512() -> Spec:
    """StyleGAN-T, light (87 million parameters), captions to images of 512 px."""
    return of_captions(512, LITE)


def stylegan_t_64() -> Spec:
    """StyleGAN-T (976 million parameters), captions to images of 64 px."""
    return of_captions(64, FULL)


def stylegan_t_256() -> Spec:
    """StyleGAN-T (1.02 billion parameters), captions to images of 256 px."""
    return of_captions(256, FULL)


def stylegan_t_512() -> Spec:
    """StyleGAN-T (1.02 billion parameters), captions to images of 512 px."""
    return of_captions(512, FULL)


def mini_stylegan_t(condition: dict[str, Any] | None = None, cond_dim: int = 10) -> Spec:
    """StyleGAN-T for the classes of the built-in digits at 16 px: trains in minutes on two CPU cores."""
    condition = condition or {"kind": "class-labels", "num_classes": cond_dim}
    size = {"channel_base": 512, "channel_max": 64, "num_pairs": 1, "num_groups": 8}
    made = generator(16, condition=condition, cond_dim=cond_dim, z_dim=32, **size)
    pool: Step = {"kind": "downsample", "method": "average"}
    optimizer = {"lr": 0.004, "decay_kimg": 8.0}
    return GAN.Spec(
        generator=made | {"image_channels": 1},
        # no frozen network, as one with published weights would have to be downloaded; so the discriminator learns
        # from the pixels on, and wants the gradient penalty that frozen features do without
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
        kimg=16.0,
    )
