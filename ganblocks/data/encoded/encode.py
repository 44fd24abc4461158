"""Encodes a data set's images as latents, once, for any number of trainings.

Latent diffusion, Rombach et al. 2022, https://arxiv.org/abs/2112.10752; moments of the posterior in files, so that each
epoch draws other latents: REPA, Yu et al. 2024, https://arxiv.org/abs/2410.06940.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from rich.console import Console
from rich.progress import track
from safetensors.torch import save
from torch import Tensor

from assemblies.gan import ResizeFilter
from blocks.families import Autoencoder
from ganblocks.data.dataset import Images
from ganblocks.data.encoded.files import MANIFEST, Manifest, ShardFile, is_latents
from ganblocks.data.skipped import Skipped, UnreadableError, summarize_skipped
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError, UsageError
from ganblocks.pixels import from_bytes
from registry import Spec, build_at
from registry.spec_file import write_atomically

SHARD_SIZE = 4096


class Encoded(NamedTuple):
    """What was written.

    Args:
        images: Number of images.
        shards: Number of files.
        latent_shape: Channels, height and width of the latents.
        mean: Mean of the unscaled latents.
        deviation: Their standard deviation; 1 / deviation is a good scaling factor.
        skipped: One line about the files that could not be read; empty if all could.
    """

    images: int
    shards: int
    latent_shape: tuple[int, int, int]
    mean: float
    deviation: float
    skipped: str


@torch.no_grad()
def encode(
    source: str | Path | Images,
    out: str | Path,
    encoder: Spec,
    *,
    resolution: int,
    num_classes: int = 0,
    keep_images: bool = False,
    resize_filter: ResizeFilter = "lanczos",
    batch_size: int = 16,
    shard_size: int = SHARD_SIZE,
    device: str | torch.device = "cpu",
) -> Encoded:
    """Write the latents of images into a folder: shards, and last the manifest, without which it is no data set.

    Args:
        source: As for `open_data`.
        out: The folder; it must not exist or be empty.
        encoder: Spec of an autoencoder.
        resolution: Height and width of the images in pixels.
        num_classes: Number of classes; 0 for no labels.
        keep_images: Whether the images are written too, for an alignment with the features of images.
        resize_filter: Filter for resizing the images.
        batch_size: Images that are encoded together.
        shard_size: Images in a file.
        device: Device of the encoder.

    Raises:
        DataError: The data cannot be used, or latents are not finite.
        SpecError: The autoencoder cannot be built, such as one whose weights are not here.
        UsageError: The folder is not empty, or the autoencoder does not fit the resolution.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not an empty folder; choose another one")
    if is_latents(source):
        raise UsageError(f"{source} has latents already; give images")
    autoencoder: Autoencoder = build_at(("encoder",), encoder).to(device).requires_grad_(False).eval()
    factor = autoencoder.downsampling
    if resolution % factor:
        nearest = max(factor, round(resolution / factor) * factor)
        raise UsageError(f"--resolution {resolution}: the autoencoder takes multiples of {factor}; take {nearest}")
    images = open_data(
        source,
        resolution=resolution,
        image_channels=autoencoder.image_channels,
        cond_dim=num_classes,
        resize_filter=resize_filter,
    )
    out.mkdir(parents=True, exist_ok=True)
    skipped: list[Skipped] = []
    shards: list[ShardFile] = []
    sums = torch.zeros(3, dtype=torch.float64)  # count, sum and sum of squares of the latents
    parts = _readable(images, skipped, shard_size)
    console = Console(stderr=True)
    total = -(-len(images) // shard_size)
    hidden = not console.is_terminal
    for pixels, labels in track(parts, "encoding", total, console=console, transient=True, disable=hidden):
        moments = torch.cat([_moments(autoencoder, part, device) for part in torch.split(pixels, batch_size)])
        if not moments.isfinite().all():
            raise DataError(f"{images.name}: the autoencoder's latents are not finite; has it been trained?")
        mean, deviation = moments.double().chunk(2, dim=1)
        sums += torch.stack([torch.tensor(float(mean.numel())), mean.sum(), (mean**2 + deviation**2).sum()])
        content = {"moments": moments} | ({"images": pixels} if keep_images else {})
        content |= {"labels": labels} if labels is not None and num_classes else {}
        shards.append(_write(out / f"latents-{len(shards):05d}.safetensors", content))
    if not shards:
        raise DataError(f"none of the images of {images.name} can be read; the first: {skipped[0]}")
    side = resolution // factor
    manifest = Manifest(
        name=images.name,
        num_images=sum(shard.num_images for shard in shards),
        latent_shape=(autoencoder.latent_channels, side, side),
        image_shape=(autoencoder.image_channels, resolution, resolution),
        has_images=keep_images,
        scaling_factor=autoencoder.scaling_factor,
        shift_factor=autoencoder.shift_factor,
        encoder=encoder.to_dict(),
        class_names=images.class_names if num_classes else (),
        shards=tuple(shards),
    )
    write_atomically(out / MANIFEST, (manifest.model_dump_json(indent=1) + "\n").encode())
    mean_value = float(sums[1] / sums[0])
    variance = float(sums[2] / sums[0]) - mean_value**2
    lost = (*images.skipped, *skipped)
    summary = summarize_skipped(lost, manifest.num_images + len(lost)) if lost else ""
    return Encoded(
        manifest.num_images, len(shards), manifest.latent_shape, mean_value, max(variance, 0.0) ** 0.5, summary
    )


def _readable(
    images: Images, skipped: list[Skipped], shard_size: int
) -> Iterator[tuple[UInt8[Tensor, "n k h w"], Tensor | None]]:
    """The images that can be read, and their labels, as many as a shard has; the others are added to `skipped`."""
    pixels: list[Tensor] = []
    indices: list[int] = []
    for index in range(len(images)):
        try:
            pixels.append(images.read(index))
            indices.append(index)
        except UnreadableError as error:
            skipped.append(Skipped(images.name_of(index), str(error)))
        if pixels and (len(pixels) == shard_size or index == len(images) - 1):
            labels = [images.label(each) for each in indices]
            yield torch.stack(pixels), torch.tensor(labels) if images.has_classes else None
            pixels, indices = [], []


def _moments(
    autoencoder: Autoencoder, pixels: UInt8[Tensor, "b k h w"], device: str | torch.device
) -> Float[Tensor, "b c h w"]:
    return autoencoder.moments(from_bytes(pixels.to(device), "symmetric")).float().cpu().contiguous()


def _write(path: Path, tensors: dict[str, Tensor]) -> ShardFile:
    content = save(tensors)
    write_atomically(path, content)
    digest = hashlib.sha256(content).hexdigest()
    return ShardFile(file=path.name, num_images=len(tensors["moments"]), sha256=digest)
