"""Example autoencoder: linear maps between patches of pixels and latents.

Name the paper here, with its address: `ganblocks blocks` shows it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from blocks.common.images.patches import image_to_patches, patches_to_image
from blocks.common.shapes import check_nchw
from blocks.families import Autoencoder, to_nchw, to_nhwc


class Example(Autoencoder, kind="example"):
    """A linear encoder and a linear decoder of patches of f x f pixels.

    Args:
        image_channels: Channels K of the images.
        latent_channels: Channels C of the latents.
        patch_size: Height and width f of a patch, in pixels.
    """

    def __init__(
        self, *, image_channels: PositiveInt = 3, latent_channels: PositiveInt = 4, patch_size: PositiveInt = 4
    ) -> None:
        super().__init__()
        self.image_channels, self.latent_channels, self.downsampling = image_channels, latent_channels, patch_size
        pixels = image_channels * patch_size**2
        self.encoder, self.decoder = nn.Linear(pixels, 2 * latent_channels), nn.Linear(latent_channels, pixels)

    def moments(self, image: Float[Tensor, "b k i j"]) -> Float[Tensor, "b 2*c h w"]:
        check_nchw(self, image, self.image_channels, name="image")
        mean, log_std = self.encoder(image_to_patches(image, self.downsampling)).chunk(2, dim=-1)
        return to_nchw(torch.cat([mean, log_std.exp()], dim=-1))

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        check_nchw(self, latents, self.latent_channels, name="latents")
        return patches_to_image(self.decoder(to_nhwc(latents)), self.downsampling)
