"""Order of images in shards: a function of seed and position that needs the number of images in each shard only.

Each pass goes over the shards in a random order, a few of them together: their images are shuffled. A position is
therefore a pass, a group of shards and an offset in it, and a training resumes there without a state of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ganblocks.data.dataset import ImageRequest


class Place(NamedTuple):
    """What a position stands for.

    Args:
        epoch: Number of passes before.
        group: Number of groups of shards in this pass before.
        offset: Number of images in this group before.
    """

    epoch: int
    group: int
    offset: int


class ShardOrder:
    """The order.

    Args:
        sizes: Number of images in each shard; some shard has one.
        seed: Random seed.
        together: Shards whose images are shuffled together.
        flip: Whether half of the images are mirrored, in each pass a different half.
        announce: Called with the shards of a group and of the next one before the first request of the group.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        seed: int,
        *,
        together: int,
        flip: bool = False,
        announce: Callable[[list[int]], None] = lambda shards: None,
    ) -> None:
        self.sizes = np.asarray(sizes, dtype=np.int64)
        self.first_numbers = np.cumsum(self.sizes) - self.sizes
        self.num_images = int(self.sizes.sum())
        self.seed, self.together, self.flip, self.announce = seed, together, flip, announce
        self.num_groups = -(-len(sizes) // together)
        self._pass: tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
        self._requests: tuple[Place, list[npt.NDArray[np.generic]]] | None = None

    def place(self, position: int) -> Place:
        """Pass, group and offset of the image at a position."""
        epoch, rest = divmod(position, self.num_images)
        _, ends = self.order_of(epoch)
        group = int(np.searchsorted(ends, rest, side="right"))
        return Place(epoch, group, rest - (int(ends[group - 1]) if group else 0))

    def order_of(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The shards in the order of a pass, and the numbers of images up to the end of each group."""
        if self._pass is None or self._pass[0] != epoch:
            shards = np.random.default_rng([self.seed, epoch]).permutation(len(self.sizes))
            ends = np.cumsum(np.add.reduceat(self.sizes[shards], np.arange(0, len(shards), self.together)))
            self._pass = epoch, shards, ends
        return self._pass[1:]

    def shards_of(self, epoch: int, group: int) -> list[int]:
        """The shards of a group; the group after the last one of a pass is the first of the next."""
        epoch, group = (epoch, group) if group < self.num_groups else (epoch + 1, 0)
        shards, _ = self.order_of(epoch)
        numbers: list[int] = shards[group * self.together :][: self.together].tolist()
        return numbers

    def requests(self, position: int, count: int) -> list[ImageRequest]:
        """The `count` requests from `position` on."""
        requests: list[ImageRequest] = []
        while len(requests) < count:
            place = self.place(position + len(requests))
            part = slice(place.offset, place.offset + count - len(requests))
            columns = [column[part].tolist() for column in self._columns(place)]
            requests += map(ImageRequest, *columns)
        return requests

    def _columns(self, place: Place) -> list[npt.NDArray[np.generic]]:
        """Numbers, mirroring and caption choices of all images of a group."""
        start = place._replace(offset=0)
        if self._requests is None or self._requests[0] != start:
            shards = self.shards_of(place.epoch, place.group)
            self.announce([*shards, *self.shards_of(place.epoch, place.group + 1)])
            # the number of a group begins at 1: numpy takes [seed, epoch, 0] for [seed, epoch]
            rng = np.random.default_rng([self.seed, place.epoch, place.group + 1])
            numbers = np.concatenate([self.first_numbers[each] + np.arange(self.sizes[each]) for each in shards])
            count = len(numbers)
            flips = rng.random(count) < (0.5 if self.flip else 0.0)
            self._requests = start, [rng.permutation(numbers), flips, rng.random(count)]
        return self._requests[1]
