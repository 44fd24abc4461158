"""The autoencoders of latent diffusion, through diffusers.

Rombach et al. 2022, https://arxiv.org/abs/2112.10752; diffusers: https://github.com/huggingface/diffusers. As the
decoder of a GAN's latents: GAT, https://arxiv.org/abs/2509.24935.

Weights on the Hugging Face Hub: stabilityai/sd-vae-ft-ema, stabilityai/sd-vae-ft-mse.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from blocks.common.autocast import no_autocast
from blocks.common.pretrained.frozen_module import WEIGHTS_ENV, FrozenModule, should_load_weights
from blocks.common.shapes import check_nchw
from blocks.families import Autoencoder
from plugins.pretrained import check_sizes, first_line
from plugins.torchvision import import_beside_torchvision
from registry import Register, hookimpl, incompatible
from registry.external_files import check_external, downloads_allowed

Arguments = dict[str, int | float | str | bool | tuple[int | str, ...]]
TINY: Arguments = {
    "block_out_channels": (8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 4,
}


class AutoencoderKL(Autoencoder, kind="autoencoder-kl"):
    """diffusers' AutoencoderKL. Its weights are frozen; model files hold a reference to them instead of a copy.

    Nothing is downloaded unless it is asked for, by `--allow-external`.

    Args:
        weights: A folder of diffusers, also by its name in the folder GANBLOCKS_WEIGHTS, or the name of a repository on
            the Hugging Face Hub; null for random weights, which are saved with the model.
        image_channels: Channels of the images.
        latent_channels: Channels of the latents.
        downsampling: Factor between the sides of images and latents.
        scaling_factor: Factor of the latents.
        shift_factor: What is subtracted from latents before that.
        arguments: Arguments of diffusers' AutoencoderKL, for random weights.

    Raises:
        IncompatibleError: diffusers is not installed, the weights are not here, or they are of another network.
    """

    wants_published_weights = True
    examples: ClassVar[tuple[Any, ...]] = (
        ({"spec": {"weights": None, "downsampling": 2, "arguments": TINY}},) if find_spec("diffusers") else ()
    )

    def __init__(
        self,
        *,
        weights: str | None = "stabilityai/sd-vae-ft-ema",
        image_channels: PositiveInt = 3,
        latent_channels: PositiveInt = 4,
        downsampling: PositiveInt = 8,
        scaling_factor: PositiveFloat = 0.18215,
        shift_factor: float = 0.0,
        arguments: Arguments = {},  # noqa: B006 (pydantic copies it)
    ) -> None:
        super().__init__()
        self.image_channels, self.latent_channels, self.downsampling = image_channels, latent_channels, downsampling
        self.scaling_factor, self.shift_factor = scaling_factor, shift_factor
        self.network: nn.Module | None = None  # without weights, as on the meta device, there is none
        if weights is None:
            check_sizes("arguments", arguments)
            channels = {"in_channels": image_channels, "out_channels": image_channels}
            try:
                network = library().AutoencoderKL(**channels, latent_channels=latent_channels, **arguments)
            except (RuntimeError, TypeError, ValueError) as error:
                fact = f"diffusers cannot build AutoencoderKL with them: {first_line(error)}"
                raise incompatible("arguments", fact) from None
            self.check(network)
            self.network = network.eval()
        elif should_load_weights():
            network = load(weights)
            self.check(network)
            for name, default in (("scaling_factor", None), ("shift_factor", 0.0)):
                published = getattr(network.config, name, None) or default
                if published is not None and published != getattr(self, name):
                    fact = f"is {getattr(self, name):g}, but {weights} was published with {published:g}"
                    raise incompatible(name, f"{fact}; set {name} to {published:g}")
            self.network = FrozenModule(network, {"diffusers": "AutoencoderKL", "weights": weights})

    def check(self, network: Any) -> None:
        """Raise an error unless a network has the channels and the downsampling of the options.

        Raises:
            IncompatibleError: It has others.
        """
        config = network.config
        actual = {
            "image_channels": config.in_channels,
            "latent_channels": config.latent_channels,
            "downsampling": 2 ** (len(config.block_out_channels) - 1),
        }
        for name, value in actual.items():
            if getattr(self, name) != value:
                raise incompatible(name, f"is {getattr(self, name)}, but the autoencoder has {value}; set {name} to it")

    def moments(self, image: Float[Tensor, "b k i j"]) -> Float[Tensor, "b 2*c h w"]:
        check_nchw(self, image, self.image_channels, name="image")
        with no_autocast(image):
            posterior = self.inner().encode(image.to(self.dtype())).latent_dist
        return torch.cat([posterior.mean, posterior.std], dim=1).to(image.dtype)

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        check_nchw(self, latents, self.latent_channels, name="latents")
        with no_autocast(latents):
            image: Tensor = self.inner().decode(latents.to(self.dtype())).sample
        return image.to(latents.dtype)

    def inner(self) -> Any:
        """diffusers' network."""
        assert self.network is not None, "the autoencoder was built without its weights"
        return self.network.network if isinstance(self.network, FrozenModule) else self.network

    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.inner().dtype
        return dtype


def library() -> ModuleType:
    """The module of diffusers that has AutoencoderKL, imported when one is first built."""
    try:
        return import_beside_torchvision("diffusers.models.autoencoders.autoencoder_kl")
    except ImportError as error:
        raise incompatible((), f"needs diffusers: pip install 'ganblocks[diffusers]' ({first_line(error)})") from None


def load(weights: str) -> Any:
    """The autoencoder in a folder, of the Hub's cache, or downloaded if that is asked for.

    Raises:
        IncompatibleError: It is not here, or it cannot be read.
    """
    network = library().AutoencoderKL
    options = {"use_safetensors": True, "low_cpu_mem_usage": False}
    folder = find_folder(weights)
    try:
        return network.from_pretrained(folder or weights, local_files_only=True, **options)
    except Exception as error:  # diffusers raises errors of any type for files that are missing or damaged
        if folder is not None:
            raise incompatible("weights", f"{folder} cannot be read: {first_line(error)}") from None
    if not downloads_allowed():
        fact = f"{weights} is neither a folder nor in the cache of the Hugging Face Hub"
        cure = f"pass --allow-external to download it, or put it into the folder that {WEIGHTS_ENV} names, as "
        raise incompatible("weights", f"{fact}; {cure}{Path(weights).name}")
    try:
        return network.from_pretrained(weights, **options)
    except Exception as error:  # a download can fail in any way
        raise incompatible("weights", f"{weights} cannot be downloaded: {first_line(error)}") from None


def find_folder(weights: str) -> Path | None:
    """The folder of that path, or of that name in the folder GANBLOCKS_WEIGHTS.

    Raises:
        IncompatibleError: A model file names a path, and external files are not allowed.
    """
    folder = os.environ.get(WEIGHTS_ENV)
    if folder and (named := Path(folder) / Path(weights).name).is_dir():
        return named
    if not Path(weights).is_dir():
        return None
    check_external("weights", f"to open {weights}")
    return Path(weights)


@hookimpl
def register_blocks(register: Register) -> None:
    register(AutoencoderKL)
