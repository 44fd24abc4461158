"""A data set in shards: its images are numbered over all shards, and the indexes of the shards in use are in memory."""

from __future__ import annotations

import hashlib
import json
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from assemblies.gan import ResizeFilter
from blocks.families.networks import ConditionInput
from ganblocks.data.archives import Member
from ganblocks.data.captions import Captions
from ganblocks.data.dataset import LENGTH, Images
from ganblocks.data.decode import decode
from ganblocks.data.skipped import UnreadableError
from ganblocks.data.streaming.order import ShardOrder
from ganblocks.data.streaming.store import Row, ShardIndex, ShardStore
from ganblocks.data.streaming.summaries import Summary
from ganblocks.errors import DataError

MAX_FAILURES = 1000  # images in a row whose captions cannot be read
MARK_SECONDS = 10.0  # after which a shard is marked again as used


class Reading(NamedTuple):
    """How the images of a data set are read.

    Args:
        labels: Which labels are needed.
        resolution: Height and width to which images are resized.
        image_channels: 1 for grey, 3 for RGB, 4 for RGBA.
        resize_filter: How they are resized.
    """

    labels: ConditionInput | None
    resolution: tuple[int, int]
    image_channels: int
    resize_filter: ResizeFilter


@dataclass(eq=False, repr=False)
class StreamedImages(Images):
    """Images in shards.

    Args:
        store: The shards.
        summaries: What is known of each.
        together: Shards whose images are shuffled together.
        identity: What the fingerprint depends on beside the summaries.
        reading: How images are read.
    """

    store: ShardStore
    summaries: Sequence[Summary]
    together: int
    identity: str
    reading: Reading
    ends: list[int] = field(init=False)
    marked: dict[int, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.ends = list(accumulate(summary.images for summary in self.summaries))
        if self.reading.labels == "captions":
            self.captions = StreamedCaptions(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_index"}

    def __len__(self) -> int:
        return self.ends[-1]

    def read(self, index: int) -> UInt8[Tensor, "c h w"]:
        while True:
            file, row = self.row(index)
            if row.problem:
                raise UnreadableError(row.problem)
            member = Member(file, row.name, row.offset, row.size, False)
            try:
                return torch.from_numpy(decode(member, *self.reading[1:]))
            except UnreadableError:
                if Path(file).exists():
                    raise
                self._index.cache_clear()  # another process has removed the copy of the shard

    def row(self, index: int) -> tuple[str, Row]:
        """The file with the bytes of an image, and its row in the index of its shard.

        Raises:
            UnreadableError: The shard has fewer images than was stated.
            DataError: The shard cannot be read or copied, or has more images than was stated.
        """
        number = bisect_right(self.ends, index)
        stated = self.summaries[number].images
        file, rows, skipped, _ = self._index(number)
        if (now := time.monotonic()) - self.marked.get(number, -MARK_SECONDS) >= MARK_SECONDS:
            self.marked[number] = now
            self.store.mark(number)
        if len(rows) > stated:
            raise DataError(
                f"{self.store.shards[number].name} has {len(rows):,} images, and {stated:,} were stated; correct or "
                "remove the file beside the shards that states it"
            )
        position = index - self.ends[number] + stated
        if position >= len(rows):
            reason = f": {skipped[0]}" if skipped else ""
            raise UnreadableError(f"is missing: the shard has {len(rows):,} of the stated {stated:,} images{reason}")
        return file, rows[position]

    @cached_property
    def _index(self) -> Any:
        """The indexes of the shards in use; each process and each copy of the data set has its own."""

        @lru_cache(maxsize=2 * self.together)
        def index(number: int) -> ShardIndex:
            return self.store.index(number)

        return index

    def name_of(self, index: int) -> str:
        number = bisect_right(self.ends, index)
        shard = self.store.shards[number].name
        try:
            return f"{shard}/{self.row(index)[1].name}"
        except UnreadableError:
            return f"{shard}, image {index - self.ends[number] + self.summaries[number].images}"

    def order(self, seed: int, *, flip: bool = False) -> ShardOrder:
        """An order of the images.

        Args:
            seed: Random seed.
            flip: Whether half of the images are mirrored.
        """
        sizes = [summary.images for summary in self.summaries]
        return ShardOrder(sizes, seed, together=self.together, flip=flip)

    @cached_property
    def fingerprint(self) -> str:
        shards = [(each.images, sorted(each.classes, key=str), each.digest) for each in self.summaries]
        content = [self.identity, self.together, self.class_names, shards]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:LENGTH]

    @cached_property
    def _classes(self) -> Counter[int | str]:
        """How many images each class has."""
        classes: Counter[int | str] = Counter()
        for summary in self.summaries:
            classes.update(dict(summary.classes))
        return classes

    @property
    def has_classes(self) -> bool:
        return bool(self._classes)

    @cached_property
    def _numbers(self) -> dict[int | str, int]:
        return {name: number for number, name in enumerate(self.class_names)}

    def label(self, index: int) -> int | None:
        label = self.row(index)[1].label if self.has_classes else None
        return self._numbers[label] if isinstance(label, str) else label

    def distinct_captions(self, limit: int) -> None:
        return None

    def subset(self, num: int, seed: int) -> list[int]:
        """Images of as few shards as have so many; these are drawn at random."""
        return sorted(request.number for request in self.order(seed).requests(0, num))

    def spread(self, num: int) -> list[int]:
        return self.subset(min(num, len(self)), 0)

    def draw_classes(self, num: int, draws: np.random.Generator) -> list[int]:
        """Classes with the frequencies that they have in the data set."""
        names = sorted(self._classes, key=lambda name: self._numbers.get(name, name))
        ends = np.cumsum([self._classes[name] for name in names])
        chosen = np.searchsorted(ends, draws.integers(int(ends[-1]), size=num), side="right")
        return [self._numbers.get(names[each], names[each]) for each in chosen]

    def draw_captions(self, num: int, draws: np.random.Generator) -> list[str]:
        """A caption of each of `num` images, of as few shards as have so many; these are drawn at random."""
        order = self.order(int(draws.integers(2**31)))
        captions: list[str] = []
        position = failures = 0
        while len(captions) < num:
            for request in order.requests(position, num - len(captions)):
                own = self.captions_of(request.number)
                captions += [own[int(request.caption_choice * len(own))]] if own else []
                failures = 0 if own else failures + 1
                position += 1
            if failures >= min(2 * len(self), MAX_FAILURES):
                raise DataError(f"{self.name}: none of {failures:,} images in a row has a caption that can be read")
        return captions

    def first_captions(self, count: int) -> list[str]:
        return self.draw_captions(count, np.random.default_rng(0))

    def captions_of(self, index: int) -> Captions:
        """The captions of an image; empty if they cannot be read."""
        try:
            return self.row(index)[1].captions
        except UnreadableError:
            return ()


class StreamedCaptions(Sequence[Captions]):
    """The captions of a data set in shards, each read when it is needed."""

    def __init__(self, images: StreamedImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return self.images.captions_of(index)
