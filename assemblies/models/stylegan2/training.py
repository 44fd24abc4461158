"""StyleGAN2-ADA's training of a pair of networks; Styleformer keeps it.

Karras et al. 2020, https://arxiv.org/abs/2006.06676.
"""

from __future__ import annotations

from typing import Any

from assemblies.gan import GAN
from registry import Spec


def gan_spec(
    generator: dict[str, Any],
    discriminator: dict[str, Any],
    *,
    batch_size: int,
    gamma: float,
    ema_kimg: float,
    ramp_up: float | None = 0.05,
    lr: float = 0.0025,
    kimg: float = 25000.0,
    path_length: float = 2.0,
    correct_generator: bool = False,
    style_mixing: float = 0.9,
    augmented: bool = True,
    augment_limit: float | None = 1.0,
    flip: bool = False,
) -> Spec:
    """A GAN with the training of StyleGAN2-ADA. Values that are no argument are the same in all its configurations.

    Args:
        generator: The generator.
        discriminator: The discriminator.
        batch_size: Images per step, over all GPUs.
        gamma: Weight of R1.
        ema_kimg: Half-life of the generator's average, in thousands of images.
        ramp_up: Upper limit of this half-life, as a fraction of the images so far; None for none.
        lr: Learning rate of both networks.
        kimg: Length, in thousands of images.
        path_length: Weight of the path length penalty; 0 for none.
        correct_generator: Whether the generator's Adam is corrected for a lazy path length penalty although there is
            none. The code of StyleGAN2-ADA and Styleformer does this.
        style_mixing: Probability that a batch mixes the styles of two latents.
        augmented: Whether images are augmented by ADA.
        augment_limit: Largest probability of ADA's transforms; StyleGAN2-ADA has no limit, ours is 1.
        flip: Whether half of the real images are mirrored.
    """
    regularizers: list[dict[str, Any]] = [{"kind": "r1", "gamma": gamma, "every": 16}]
    if path_length:
        regularizers.append({"kind": "path-length", "weight": path_length, "every": 4, "batch_shrink": 2})
    optimizer = {"lr": lr, "betas": (0.0, 0.99), "eps": 1e-8}
    c = 4 / 5 if correct_generator and not path_length else 1.0
    return GAN.Spec(
        generator=generator,
        discriminator=discriminator,
        loss="non-saturating",
        regularizers=regularizers,
        style_mixing=style_mixing,
        augment={"kind": "ada", "target": 0.6, "limit": augment_limit} if augmented else None,
        generator_optimizer=optimizer | {"lr": c * lr, "betas": (0.0, 0.99**c)},
        discriminator_optimizer=optimizer,
        ema={"half_life_kimg": ema_kimg, "ramp_up": ramp_up},
        batch_size=batch_size,
        kimg=kimg,
        flip=flip,
    )
