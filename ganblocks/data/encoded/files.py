"""A data set of latents in files, as `ganblocks data encode` writes them.

A folder with `latents.json` and shards in the .safetensors format: `moments` [n,2C,h,w], means and standard deviations
of unscaled latents in float32; optionally `images` [n,K,H,W], the encoded images in bytes, and `labels` [n].
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float, UInt8
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError
from safetensors import safe_open
from torch import Tensor

from ganblocks.data.dataset import LENGTH, Images
from ganblocks.errors import DataError
from registry import SpecError, plain_data
from registry.text import excerpt

MANIFEST = "latents.json"
Shape = tuple[PositiveInt, PositiveInt, PositiveInt]


class ShardFile(BaseModel):
    """One of the files: its name, its number of images, and the SHA-256 of its bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Annotated[str, Field(pattern=r"^[\w-]+\.safetensors$")]
    num_images: PositiveInt
    sha256: str


class Manifest(BaseModel):
    """The content of `latents.json`.

    Args:
        format: The version of the format.
        name: Name of the data set that was encoded.
        num_images: Number of images in all shards.
        latent_shape: Channels, height and width of the latents.
        image_shape: Channels, height and width of the images that they encode.
        has_images: Whether the shards contain these images.
        scaling_factor: Factor of the latents in a training.
        shift_factor: What is subtracted before that.
        encoder: Spec of the autoencoder.
        class_names: Names of the classes; empty without labels.
        shards: The files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["ganblocks-latents-1"] = "ganblocks-latents-1"
    name: str
    num_images: PositiveInt
    latent_shape: Shape
    image_shape: Shape
    has_images: bool
    scaling_factor: PositiveFloat
    shift_factor: float
    encoder: dict[str, Any]
    class_names: tuple[str, ...] = ()
    shards: tuple[ShardFile, ...]


@dataclass(eq=False, repr=False)
class LatentImages(Images):
    """Latents in files; `read` gives their moments.

    Args:
        folder: The folder.
        manifest: Its `latents.json`.
        reads_images: Whether batches contain the encoded images too.
    """

    folder: Path
    manifest: Manifest
    reads_images: bool = field(default=False, kw_only=True)

    def __len__(self) -> int:
        return self.manifest.num_images

    def read(self, index: int) -> Float[Tensor, "c h w"]:
        """Means and standard deviations of one image's latents, side by side along the channels."""
        return self._read("moments", index)

    def encoded_image(self, index: int) -> UInt8[Tensor, "k i j"] | None:
        return self._read("images", index) if self.reads_images else None

    def _read(self, name: str, index: int) -> Tensor:
        shard = bisect_right(self._ends, index)
        first = self._ends[shard - 1] if shard else 0
        tensor: Tensor = opened(self.folder / self.manifest.shards[shard].file).get_slice(name)[index - first]
        return tensor

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(shard.num_images for shard in self.manifest.shards))

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.manifest.model_dump_json().encode()).hexdigest()[:LENGTH]


@lru_cache(maxsize=64)
def opened(path: Path) -> Any:
    """A shard, which is mapped into memory; each process opens it once."""
    return safe_open(path, framework="pt")


def is_latents(source: object) -> bool:
    """Whether a data set is a folder of latents."""
    return isinstance(source, LatentImages) or (isinstance(source, str | Path) and (Path(source) / MANIFEST).is_file())


def open_latents(folder: str | Path) -> LatentImages:
    """The latents in a folder; the header of each shard is compared with the manifest.

    Raises:
        DataError: The manifest or a shard is damaged, or they do not fit together.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate(plain_data.parse(path.read_bytes(), "json", str(path)))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: {place}: {excerpt(first['msg'], 200)}; encode the images again") from None
    except SpecError as error:
        raise DataError(f"{error}; encode the images again") from None
    if (total := sum(shard.num_images for shard in manifest.shards)) != manifest.num_images:
        raise DataError(f"{path}: the shards have {total} images, not {manifest.num_images}; encode the images again")
    labels = [_checked(folder / shard.file, shard, manifest) for shard in manifest.shards]
    return LatentImages(
        folder,
        manifest,
        name=str(folder),
        labels=torch.cat(labels) if manifest.class_names else None,  # type: ignore[arg-type]
        class_names=manifest.class_names,
    )


def _checked(path: Path, shard: ShardFile, manifest: Manifest) -> Tensor | None:
    """The labels of a shard whose tensors have the shapes that the manifest says."""
    channels, *side = manifest.latent_shape
    expected = {"moments": ("F32", [shard.num_images, 2 * channels, *side])}
    if manifest.has_images:
        expected["images"] = ("U8", [shard.num_images, *manifest.image_shape])
    if manifest.class_names:
        expected["labels"] = ("I64", [shard.num_images])
    try:
        file = opened(path)
        slices = {name: file.get_slice(name) for name in file.keys()}
        actual = {name: (each.get_dtype(), each.get_shape()) for name, each in slices.items()}
        labels = file.get_tensor("labels") if manifest.class_names and actual == expected else None
    except Exception as error:  # safetensors raises errors of several types for damaged files
        raise DataError(f"{path} cannot be read: {excerpt(error, 200)}; encode the images again") from None
    if actual != expected:
        raise DataError(f"{path} has {json.dumps(actual)}, not {json.dumps(expected)}; encode the images again")
    return labels
