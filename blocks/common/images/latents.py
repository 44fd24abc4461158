"""Latents of a variational autoencoder from the moments of its posterior.

Latent diffusion, Rombach et al. 2022, https://arxiv.org/abs/2112.10752: latents are scaled to a standard deviation of
about 1.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def draw_latents(
    moments: Float[Tensor, "b k h w"],
    noise: Float[Tensor, "b c h w"],
    *,
    scaling_factor: float,
    shift_factor: float,
) -> Float[Tensor, "b c h w"]:
    """scaling_factor (mean + deviation x noise - shift_factor).

    Args:
        moments: Means and standard deviations, side by side along the channels: k = 2c.
        noise: N(0,1), or zeros for the mean.
        scaling_factor: The factor.
        shift_factor: What is subtracted before it.
    """
    mean, deviation = moments.chunk(2, dim=1)
    return (mean + deviation * noise - shift_factor) * scaling_factor


def undo_scaling(
    latents: Float[Tensor, "b c h w"], *, scaling_factor: float, shift_factor: float
) -> Float[Tensor, "b c h w"]:
    """latents / scaling_factor + shift_factor: what the decoder takes."""
    return latents / scaling_factor + shift_factor
