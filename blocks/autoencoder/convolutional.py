"""A small convolutional variational autoencoder.

Kingma and Welling 2013, https://arxiv.org/abs/1312.6114. It has the interface of the large autoencoders of latent
diffusion, Rombach et al. 2022, https://arxiv.org/abs/2112.10752, and is trained in seconds on small images.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from blocks.common.pretrained.frozen_module import find_weights_file, should_load_weights
from blocks.common.shapes import check_nchw
from blocks.families import Autoencoder
from registry import incompatible
from registry.external_files import check_external

LIMIT = 20.0  # of the logarithm of a variance


class ConvAutoencoder(Autoencoder, kind="conv-autoencoder"):
    """Convolutions that halve the resolution, and their mirror image; the weights are part of the model.

    Args:
        image_channels: Channels K of the images.
        latent_channels: Channels C of the latents.
        downsampling: Factor f between the sides of images and latents.
        dim: Channels of the hidden layers.
        weights: A .safetensors file with its state dict, also by its name in the folder GANBLOCKS_WEIGHTS; null for
            random weights.
        scaling_factor: Factor of the latents, such as 1 over their standard deviation.
        shift_factor: What is subtracted from latents before that, such as their mean.

    Raises:
        IncompatibleError: The weights cannot be read, or are of another network.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"image_channels": 1, "latent_channels": 2, "downsampling": 4, "dim": 8, "scaling_factor": 0.5}},
        {"spec": {"downsampling": 1, "dim": 8, "shift_factor": 0.25}},
    )

    def __init__(
        self,
        *,
        image_channels: PositiveInt = 3,
        latent_channels: PositiveInt = 4,
        downsampling: Literal[1, 2, 4, 8, 16] = 8,
        dim: PositiveInt = 32,
        weights: str | None = None,
        scaling_factor: PositiveFloat = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        self.image_channels, self.latent_channels, self.downsampling = image_channels, latent_channels, downsampling
        self.scaling_factor, self.shift_factor = scaling_factor, shift_factor
        halvings = downsampling.bit_length() - 1
        down: list[nn.Module] = [nn.Conv2d(image_channels, dim, 3, padding=1), nn.SiLU()]
        up: list[nn.Module] = [nn.Conv2d(latent_channels, dim, 3, padding=1), nn.SiLU()]
        for _ in range(halvings):
            down += [nn.Conv2d(dim, dim, 4, stride=2, padding=1), nn.SiLU()]
            up += [nn.Upsample(scale_factor=2), nn.Conv2d(dim, dim, 3, padding=1), nn.SiLU()]
        self.encoder = nn.Sequential(*down, nn.Conv2d(dim, 2 * latent_channels, 1))
        self.decoder = nn.Sequential(*up, nn.Conv2d(dim, image_channels, 3, padding=1))
        if weights is not None and should_load_weights(embed_weights=True):
            self.load(weights)

    def load(self, weights: str) -> None:
        """Load a file of weights.

        Raises:
            IncompatibleError: It cannot be read, or is of another network.
        """
        check_external("weights", f"to open {weights}")
        if (path := find_weights_file(weights)) is None:
            raise incompatible("weights", f"the file {weights!r} does not exist; give a .safetensors file")
        try:
            self.load_state_dict(load_file(path))
        except (SafetensorError, OSError) as error:
            raise incompatible("weights", f"{path} cannot be read as .safetensors: {error}") from None
        except RuntimeError as error:
            reason = " ".join(str(error).split()[:40])
            raise incompatible("weights", f"{path} is of another network: {reason}") from None

    def moments(self, image: Float[Tensor, "b k i j"]) -> Float[Tensor, "b 2*c h w"]:
        check_nchw(self, image, self.image_channels, name="image")
        mean, log_variance = self.encoder(image).chunk(2, dim=1)
        return torch.cat([mean, (0.5 * log_variance.clamp(-LIMIT, LIMIT)).exp()], dim=1)

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        check_nchw(self, latents, self.latent_channels, name="latents")
        image: Tensor = self.decoder(latents)
        return image
