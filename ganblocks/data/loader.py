"""An endless stream of training batches whose order is a pure function of the seed and the position.

A training that is stopped and resumed therefore sees exactly the images it would have seen, with any number of workers.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ganblocks.data.dataset import UNREADABLE, Images, ImagesInMemory, Skipped, reason
from ganblocks.errors import DataError

Pick = tuple[int, bool, float]  # which image, whether it is mirrored, and the choice among its captions


class RealBatch(NamedTuple):
    """Real images, the files that others had to stand in for, and their classes or captions if there are any."""

    images: UInt8[Tensor, "b c h w"]
    labels: Int64[Tensor, " b"] | None
    skipped: tuple[Skipped, ...]
    captions: tuple[str, ...] | None = None


class Sampler:
    """Pass after pass over a data set, each in an order of its own.

    Args:
        num_images: Images in the data set.
        seed: What the permutations follow from.
        flip: Whether half of the images are mirrored, others in each pass.
    """

    def __init__(self, num_images: int, seed: int, *, flip: bool = False) -> None:
        self.num_images = num_images
        self.seed = seed
        self.flip = flip
        self._current: tuple[int, npt.NDArray[np.int64], npt.NDArray[np.bool_]] | None = None
        self._choices: tuple[int, npt.NDArray[np.float64]] | None = None

    def indices(self, position: int, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Which images come at `position` and after, and which of them are mirrored."""
        indices, flips = [], []
        while count > 0:
            number, first = divmod(position, self.num_images)
            _, permutation, mirrored = self._pass(number)
            taken = permutation[first : first + count]
            indices.append(taken)
            flips.append(mirrored[first : first + count])
            position, count = position + len(taken), count - len(taken)
        return np.concatenate(indices), np.concatenate(flips)

    def choices(self, position: int, count: int) -> npt.NDArray[np.float64]:
        """For each of those images a number in [0,1), others in each pass: which of its captions is taken."""
        found: list[npt.NDArray[np.float64]] = []
        while count > 0:
            number, first = divmod(position, self.num_images)
            if self._choices is None or self._choices[0] != number:
                self._choices = (number, np.random.default_rng([self.seed, number, 1]).random(self.num_images))
            found.append(self._choices[1][first : first + count])
            position, count = position + len(found[-1]), count - len(found[-1])
        return np.concatenate(found)

    def _pass(self, number: int) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        if self._current is None or self._current[0] != number:
            draws = np.random.default_rng([self.seed, number])
            permutation = draws.permutation(self.num_images)
            mirrored = draws.random(self.num_images) < (0.5 if self.flip else 0.0)
            self._current = (number, permutation, mirrored)
        return self._current


class Shard(NamedTuple):
    """Which part of each batch a process takes: `rank` of `world`."""

    rank: int = 0
    world: int = 1

    def of(self, position: int, batch_size: int) -> tuple[int, int]:
        """Position and size of this process's part of the batch at `position`."""
        size = batch_size // self.world
        return position + self.rank * size, size


def batches(
    images: Images,
    sampler: Sampler,
    *,
    position: int,
    batch_size: int,
    shard: Shard = Shard(),  # noqa: B008 (immutable)
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[RealBatch]:
    """Batches from `position` on, for ever.

    Args:
        images: The data set.
        order: In which order.
        position: Images shown before.
        batch_size: Images in a batch of all processes together.
        share: Which part of it this process takes.
        workers: Processes that decode files; images in memory need none.
        device: Where the images go.
    """
    picks = _picks(sampler, position, batch_size, shard)
    if isinstance(images, ImagesInMemory):
        return _from_memory(images, picks, torch.device(device))
    return _from_files(images, picks, workers, torch.device(device))


def _picks(sampler: Sampler, position: int, batch_size: int, shard: Shard) -> Iterator[list[Pick]]:
    while True:
        part = shard.of(position, batch_size)
        indices, flips = sampler.indices(*part)
        yield list(zip(indices.tolist(), flips.tolist(), sampler.choices(*part).tolist(), strict=True))
        position += batch_size


def _from_memory(images: ImagesInMemory, picks: Iterator[list[Pick]], device: torch.device) -> Iterator[RealBatch]:
    pixels = images.pixels.to(device)
    labels = None if images.labels is None else images.labels.to(device)
    for batch in picks:
        indices = torch.tensor([index for index, *_ in batch], device=device)
        flips = torch.tensor([flip for _, flip, _ in batch], device=device)
        chosen = pixels[indices]
        if any(flip for _, flip, _ in batch):
            chosen = torch.where(flips[:, None, None, None], chosen.flip(-1), chosen)
        captions = tuple(images.caption(index, choice) for index, _, choice in batch)
        yield RealBatch(chosen, None if labels is None else labels[indices], (), _given(captions))


def _from_files(images: Images, picks: Iterator[list[Pick]], workers: int, device: torch.device) -> Iterator[RealBatch]:
    loader = DataLoader(
        _Reader(images),
        batch_sampler=picks,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_leave_interrupts_to_the_parent if workers else None,
        generator=torch.Generator(),  # the loader draws a seed for its workers; not from the training's randomness
        pin_memory=device.type == "cuda",
    )
    for chosen, labels, skipped, captions in loader:
        yield RealBatch(
            chosen.to(device, non_blocking=True),
            None if labels is None else labels.to(device, non_blocking=True),
            tuple(Skipped(*each) for each in skipped),
            _given(captions),
        )


def _given(captions: tuple[str | None, ...]) -> tuple[str, ...] | None:
    found = tuple(caption for caption in captions if caption is not None)
    return found or None


Read = tuple[Tensor, int | None, list[tuple[str, str]], str | None]


class _Reader(Dataset):  # type: ignore[type-arg]
    """Reads picks; where a file cannot be read, the next one in the data set stands in."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitem__(self, indices: Pick) -> Read:
        index, flip, choice = indices
        skipped = []
        for _ in range(len(self.images)):
            try:
                image = self.images.read(index)
            except UNREADABLE as error:
                skipped.append((str(self.images.paths[index]), reason(error)))  # type: ignore[attr-defined]
                index = (index + 1) % len(self.images)
                continue
            label = None if self.images.labels is None else int(self.images.labels[index])
            caption = self.images.caption(index, choice)
            return image.flip(-1) if flip else image, label, skipped, caption
        raise DataError(
            f"none of the {len(self.images)} image files in {self.images.name} can be read; the first: {skipped[0]}"
        )


def _collate(
    picked: list[Read],
) -> tuple[Tensor, Tensor | None, list[tuple[str, str]], tuple[str | None, ...]]:
    labels = [label for _, label, _, _ in picked if label is not None]
    skipped = [each for _, _, found, _ in picked for each in found]
    captions = tuple(caption for *_, caption in picked)
    return torch.stack([image for image, *_ in picked]), torch.tensor(labels) if labels else None, skipped, captions


def _leave_interrupts_to_the_parent(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the training decides when its workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
