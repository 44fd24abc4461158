"""The pictures of a data set: its images, or those that its latents encode."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from assemblies import Generator
from assemblies.gan import ResizeFilter
from blocks.common.images.latents import draw_latents
from ganblocks.data.dataset import LENGTH, Images
from ganblocks.data.encoded.files import LatentImages, is_latents
from ganblocks.data.loader import RealBatch
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError
from ganblocks.pixels import from_bytes, to_bytes
from registry import Spec


@dataclass(eq=False, repr=False)
class DecodedImages(Images):
    """The pictures that latents encode: those in the files, or decoded from the means of the latents.

    Args:
        latents: The latents.
        generator: Its decoder decodes.
    """

    latents: LatentImages
    generator: Generator

    def __len__(self) -> int:
        return len(self.latents)

    @torch.no_grad()
    def read(self, index: int) -> UInt8[Tensor, "k h w"]:
        if (image := self.latents.encoded_image(index)) is not None:
            return image
        moments = self.latents.read(index)[None].to(next(self.generator.parameters()).device)
        means = scaled(moments, torch.zeros_like(moments[:, ::2]), self.latents)
        return to_bytes(self.generator.decode(means), "symmetric")[0].cpu()

    @cached_property
    def fingerprint(self) -> str:
        if self.latents.reads_images:
            source = "images"
        else:
            source = self.generator.decoder.spec.to_json()  # type: ignore[union-attr, operator]
        return hashlib.sha256(f"{self.latents.fingerprint} {source}".encode()).hexdigest()[:LENGTH]


def pictures_of(images: Images, generator: Generator) -> Images:
    """A data set as pictures, which metrics compare with.

    Raises:
        DataError: It has latents without images, and the generator has no decoder.
    """
    if not isinstance(images, LatentImages):
        return images
    reads_images = images.manifest.has_images
    if not reads_images and getattr(generator, "decoder", None) is None:
        raise DataError(
            f"{images.name} has latents without their images, and the generator has no decoder: give it one, or encode "
            "with --keep-images"
        )
    latents = LatentImages(images.folder, images.manifest, name=images.name, reads_images=reads_images)
    names = ("name", "labels", "class_names", "skipped", "notes")
    return DecodedImages(latents, generator, **{name: getattr(images, name) for name in names})


def open_pictures(
    source: str | Path | Images,
    generator: Generator,
    *,
    cond_dim: int = 0,
    captions: bool = False,
    resize_filter: ResizeFilter = "lanczos",
) -> Images:
    """A data set as pictures of the generator's size; latents are decoded. Arguments as of `open_data`.

    Raises:
        DataError: As `open_data` and `pictures_of`.
    """
    channels, height, width = generator.picture_shape
    if is_latents(source):
        channels, (height, width) = generator.image_channels, generator.resolution
    images = open_data(
        source,
        resolution=(height, width),
        image_channels=channels,
        cond_dim=cond_dim,
        captions=captions,
        resize_filter=resize_filter,
    )
    return pictures_of(images, generator)


def check_latents(images: Images, generator: Spec, *, needs_images: bool) -> None:
    """Check that latents fit the decoder of the generator of a spec, and whether images are read with them.

    Raises:
        DataError: The factors of the latents differ from the decoder's, or a regularizer needs images and there are
            none.
    """
    if not isinstance(images, LatentImages):
        return
    decoder = getattr(generator, "decoder", None)
    for name in ("scaling_factor", "shift_factor"):
        there, here = getattr(images.manifest, name), getattr(decoder, name, None)
        if here is not None and here != there:
            raise DataError(f"{images.name} has latents of {name} {there:g}, but generator.decoder.{name} is {here:g}")
    if needs_images and not images.manifest.has_images:
        raise DataError(
            f"{images.name} has no images beside its latents, which token-alignment needs; encode with --keep-images"
        )
    images.reads_images = needs_images


def training_images(
    batch: RealBatch, images: Images, value_range: str
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k i j"] | None]:
    """Real images as a training takes them, and the images in [-1,1] that they encode if latents come with them.

    Latents are drawn from their moments by torch's random numbers.
    """
    if not isinstance(images, LatentImages):
        return from_bytes(batch.images, value_range), None
    moments = batch.images.to(memory_format=torch.channels_last)
    latents = scaled(moments, torch.randn_like(moments[:, ::2]), images)
    return latents, None if batch.encoded is None else from_bytes(batch.encoded, "symmetric")


def scaled(moments: Float[Tensor, "b k h w"], noise: Float[Tensor, "b c h w"], images: LatentImages) -> Tensor:
    factors = images.manifest
    return draw_latents(
        moments, noise, scaling_factor=factors.scaling_factor, shift_factor=factors.shift_factor
    ).contiguous(memory_format=torch.channels_last)
