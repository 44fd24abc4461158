"""An endless stream of training batches whose order is a pure function of seed and position.

A training that is stopped and resumed gets the images that it would have got without the stop, with any number of
workers.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ganblocks.data.dataset import ImageRequest, Images, ImagesInMemory
from ganblocks.data.decode import pixel_budget
from ganblocks.data.decode_workers import batches_of_workers, keep_running
from ganblocks.data.skipped import Skipped, UnreadableError
from ganblocks.data.streaming.images import StreamedImages
from ganblocks.data.streaming.order import ShardOrder
from ganblocks.data.streaming.prefetch import ShardPrefetch
from ganblocks.errors import DataError
from ganblocks.transfer import Prefetcher, to_device

MAX_FAILURES = 1000  # unreadable files in a row after which loading stops


class RealBatch(NamedTuple):
    """A batch of real images, with their classes or captions if there are any.

    Args:
        images: The images, in bytes; of latents their moments.
        labels: Their classes.
        skipped: Files that could not be read; the next images of the data set replace them.
        captions: One caption of each image.
        encoded: The images that latents encode, if batches contain them.
    """

    images: UInt8[Tensor, "b c h w"] | Float[Tensor, "b c h w"]
    labels: Int64[Tensor, " b"] | None
    skipped: tuple[Skipped, ...]
    captions: tuple[str, ...] | None = None
    encoded: UInt8[Tensor, "b k i j"] | None = None


class Sampler:
    """Order of the images: pass after pass over the data set, each in a random order.

    Args:
        num_images: Number of images in the data set.
        seed: Random seed.
        flip: Whether half of the images are mirrored, in each pass a different half.
    """

    def __init__(self, num_images: int, seed: int, *, flip: bool = False) -> None:
        self.num_images = num_images
        self.seed = seed
        self.flip = flip
        self._current: tuple[int, npt.NDArray[np.int64], npt.NDArray[np.bool_]] | None = None
        self._choices: tuple[int, npt.NDArray[np.float64]] | None = None

    def indices(self, position: int, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Indices of the `count` images from `position` on, and which of them are mirrored."""
        indices, flips = [], []
        while count > 0:
            number, first = divmod(position, self.num_images)
            _, permutation, mirrored = self._pass(number)
            indices.append(permutation[first : first + count])
            flips.append(mirrored[first : first + count])
            position, count = position + len(indices[-1]), count - len(indices[-1])
        return np.concatenate(indices), np.concatenate(flips)

    def caption_choices(self, position: int, count: int) -> npt.NDArray[np.float64]:
        """For each of those images a number in [0,1) that chooses among its captions, in each pass a new one."""
        choices: list[npt.NDArray[np.float64]] = []
        while count > 0:
            number, first = divmod(position, self.num_images)
            if self._choices is None or self._choices[0] != number:
                self._choices = (number, np.random.default_rng([self.seed, number, 1]).random(self.num_images))
            choices.append(self._choices[1][first : first + count])
            position, count = position + len(choices[-1]), count - len(choices[-1])
        return np.concatenate(choices)

    def requests(self, position: int, count: int) -> list[ImageRequest]:
        """The `count` requests from `position` on."""
        indices, flips = self.indices(position, count)
        choices = self.caption_choices(position, count)
        return list(map(ImageRequest, indices.tolist(), flips.tolist(), choices.tolist()))

    def _pass(self, number: int) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        if self._current is None or self._current[0] != number:
            rng = np.random.default_rng([self.seed, number])
            permutation = rng.permutation(self.num_images)
            mirrored = rng.random(self.num_images) < (0.5 if self.flip else 0.0)
            self._current = (number, permutation, mirrored)
        return self._current


def sampler_of(images: Images, seed: int, *, flip: bool = False) -> Sampler | ShardOrder:
    """The order of a training on a data set."""
    if isinstance(images, StreamedImages):
        return images.order(seed, flip=flip)
    return Sampler(len(images), seed, flip=flip)


class Shard(NamedTuple):
    """The part of each batch that one process takes.

    Args:
        rank: Number of the process, from 0.
        world: Number of processes.
    """

    rank: int = 0
    world: int = 1

    def of(self, position: int, batch_size: int) -> tuple[int, int]:
        """Position and size of this process's part of the batch at `position`."""
        size = batch_size // self.world
        return position + self.rank * size, size


def batches(
    images: Images,
    sampler: Sampler | ShardOrder,
    *,
    position: int,
    batch_size: int,
    shard: Shard = Shard(),  # noqa: B008 (immutable)
    workers: int = 0,
    device: torch.device | str = "cpu",
    stopped: Callable[[], bool] = lambda: False,
) -> Generator[RealBatch]:
    """Batches from `position` on, without end.

    Args:
        images: The data set.
        sampler: Order of its images.
        position: Number of images in all batches before.
        batch_size: Images in a batch of all processes together.
        shard: The part of each batch to load.
        workers: Processes that decode files; images in memory need none.
        device: Device of the batches.
        stopped: Called while waiting for a batch; the batches end when it returns True.

    Raises:
        DataError: None of 1,000 images in a row can be read, or a worker died or hangs.
    """
    parts = _parts(sampler, position, batch_size, shard)
    if isinstance(images, ImagesInMemory):
        return _from_memory(images, parts, torch.device(device))
    stream = _from_files(images, parts, workers, torch.device(device), stopped)
    if isinstance(images, StreamedImages) and isinstance(sampler, ShardOrder):
        return _with_prefetch(stream, ShardPrefetch(images.store), sampler)
    return stream


def _with_prefetch(stream: Generator[RealBatch], prefetch: ShardPrefetch, order: ShardOrder) -> Generator[RealBatch]:
    with prefetch, closing(stream):
        order.announce = prefetch.announce
        yield from stream


def _parts(sampler: Sampler | ShardOrder, position: int, batch_size: int, shard: Shard) -> Iterator[list[ImageRequest]]:
    while True:
        yield sampler.requests(*shard.of(position, batch_size))
        position += batch_size


def _from_memory(
    images: ImagesInMemory, parts: Iterator[list[ImageRequest]], device: torch.device
) -> Generator[RealBatch]:
    pixels = images.pixels.to(device)
    labels = None if images.labels is None else images.labels.to(device)
    for requests in parts:
        indices = to_device(torch.tensor([request.number for request in requests]), device)
        flips = to_device(torch.tensor([request.flip for request in requests]), device)
        batch = pixels[indices]
        if any(request.flip for request in requests):
            batch = torch.where(flips[:, None, None, None], batch.flip(-1), batch)
        captions = [images.caption(request.number, request.caption_choice) for request in requests]
        yield RealBatch(batch, None if labels is None else labels[indices], (), _if_complete(captions))


def _from_files(
    images: Images,
    parts: Iterator[list[ImageRequest]],
    workers: int,
    device: torch.device,
    stopped: Callable[[], bool],
) -> Generator[RealBatch]:
    loader: DataLoader[RealBatch | DataError] = DataLoader(
        _Decoder(images),
        batch_sampler=parts,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=partial(_start_worker, multiprocessing.Lock()) if workers else None,
        generator=torch.Generator(),  # the loader draws a seed for its workers; not from the training's randomness
        pin_memory=device.type == "cuda",
    )
    copied = Prefetcher(device)
    for batch in batches_of_workers(loader, stopped) if workers else loader:
        if isinstance(batch, DataError):
            raise batch
        yield RealBatch(
            copied(batch.images),
            None if batch.labels is None else copied(batch.labels),
            tuple(batch.skipped),
            None if batch.captions is None else tuple(batch.captions),
            None if batch.encoded is None else copied(batch.encoded),
        )


class _Decoder(Dataset):  # type: ignore[type-arg]
    """Decodes the images of a batch; a file that cannot be read is replaced by the next one in the data set."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitems__(self, requests: list[ImageRequest]) -> RealBatch | DataError:
        try:
            return self.batch(requests)
        except DataError as error:
            return error  # raised in a worker, it would arrive with the worker's traceback in its message

    def batch(self, requests: list[ImageRequest]) -> RealBatch:
        pixels: list[Tensor] = []
        encoded: list[Tensor] = []
        labels: list[int] = []
        captions: list[str | None] = []
        skipped: list[Skipped] = []
        for request in requests:
            number, image = self.first_readable(request.number, skipped)
            pixels.append(image.flip(-1) if request.flip else image)
            if (picture := self.images.encoded_image(number)) is not None:
                encoded.append(picture.flip(-1) if request.flip else picture)
            captions.append(self.images.caption(number, request.caption_choice))
            if (label := self.images.label(number)) is not None:
                labels.append(label)
        batch = torch.stack(pixels)
        labels_or_none = torch.tensor(labels) if labels else None
        pictures = torch.stack(encoded) if encoded else None
        return RealBatch(batch, labels_or_none, tuple(skipped), _if_complete(captions), pictures)

    def first_readable(self, number: int, skipped: list[Skipped]) -> tuple[int, Tensor]:
        """The first image from `number` on that can be read; those before it are added to `skipped`."""
        failures: list[Skipped] = []
        for _ in range(min(len(self.images), MAX_FAILURES)):
            try:
                image = self.images.read(number)
            except UnreadableError as error:
                failures.append(Skipped(self.images.name_of(number), str(error)))
                number = (number + 1) % len(self.images)
            else:
                skipped += failures
                return number, image
        count = len(failures)
        files = f"the {count} image files" if count == len(self.images) else f"{count:,} image files in a row"
        raise DataError(f"none of {files} in {self.images.name} can be read; the first: {failures[0]}")


def _if_complete(captions: list[str | None]) -> tuple[str, ...] | None:
    return tuple(caption for caption in captions if caption is not None) or None


def _unchanged(batch: Any) -> Any:
    """A collate function for a data set that returns whole batches."""
    return batch


def _start_worker(large_images: AbstractContextManager[object], _worker: int) -> None:
    """Let the workers of a loader decode one large image at a time, all together."""
    keep_running()
    pixel_budget.large = large_images
