"""StyleGAN2 for faces at 256 pixels.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958; training values: StyleGAN2-ADA, Karras et al. 2020,
https://arxiv.org/abs/2006.06676.
"""

from __future__ import annotations

from assemblies.models.stylegan2.architecture import CLAMP, discriminator, generator
from assemblies.models.stylegan2.training import gan_spec
from registry import Spec

__all__ = ["stylegan2_ffhq_256"]


def stylegan2_ffhq_256() -> Spec:
    """StyleGAN2 for faces (FFHQ) at 256 px, as StyleGAN2-ADA trained it for its baselines: configuration paper256."""
    return gan_spec(
        generator(256, channel_base=16384, clamp=CLAMP),
        discriminator(256, channel_base=16384, group_size=8, clamp=CLAMP),
        batch_size=64,  # paper256; 8 images on each of 8 GPUs
        gamma=1.0,  # paper256
        ema_kimg=20.0,  # paper256
        ramp_up=None,  # paper256
        augmented=False,  # 70,000 mirrored faces need none: StyleGAN2-ADA, figure 7
        flip=True,
    )
