"""Condition vectors c of the images of a batch, the same after a resume as without one.

The last bits of a caption's embedding depend on the other captions of its batch. A data set with few captions therefore
has all of them embedded before the first step, in sorted order; one with many has each batch embedded by itself.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from assemblies import Generator
from blocks.families import Condition
from ganblocks.data.dataset import Images
from ganblocks.data.loader import RealBatch
from ganblocks.errors import DataError
from ganblocks.sampling.conditions import one_hot
from ganblocks.transfer import to_device

MAX_EMBEDDED = 2**16  # captions whose embeddings are computed in advance
MAX_VALUES = 2**27  # in those embeddings, which may contain all tokens
CHUNK = 256


class ConditionEncoder:
    """Encodes the classes or captions of batches.

    Where the generator's own condition is trained, the vectors c come from an untrained copy of it: the discriminator
    and the guidance need conditions that do not change. The generator encodes the `tokens` itself.

    Args:
        generator: The generator that takes the conditions.
        images: The data set.
        device: Device of the vectors.
        trains_condition: Whether the generator's own condition is trained.
    """

    def __init__(
        self, generator: Generator, images: Images, device: torch.device, *, trains_condition: bool = False
    ) -> None:
        self.generator, self.device, self.trains_condition = generator, device, trains_condition
        self.condition = _untrained_copy(generator, device) if trains_condition else _condition_of(generator)
        self.rows: dict[str, int] = {}
        if self.takes_captions:
            captions = images.distinct_captions(min(MAX_EMBEDDED, MAX_VALUES // generator.cond_dim))
            if captions is not None:
                self.rows = {caption: row for row, caption in enumerate(captions)}
                self.table = self.embed(captions)

    @property
    def takes_captions(self) -> bool:
        return self.condition is not None and self.condition.condition_input == "captions"

    def encode(self, batch: RealBatch) -> Float[Tensor, "b d"] | None:
        """Condition vectors of a batch; None if the generator is unconditional or the images have no labels.

        Raises:
            DataError: The generator takes captions and the images have none.
        """
        if not self.generator.cond_dim:
            return None
        if self.takes_captions:
            if batch.captions is None:
                raise DataError("the generator takes captions, but the images have none")
            if not self.rows:
                return self.embed(list(batch.captions))
            return self.table[to_device(torch.tensor([self.rows[caption] for caption in batch.captions]), self.device)]
        if batch.labels is None:
            return None
        if self.condition is not None:
            with torch.no_grad():
                c: Tensor = self.condition(batch.labels)
            return c
        return one_hot(batch.labels, self.generator.cond_dim)

    def tokens(self, batch: RealBatch) -> Int64[Tensor, "b ..."] | None:
        """What a trained condition encodes: token ids of captions, or class indices; None if it is not trained."""
        if not self.trains_condition:
            return None
        assert self.condition is not None
        return batch.labels if batch.captions is None else to_device(self.condition.read(batch.captions), self.device)

    @torch.no_grad()
    def embed(self, captions: list[str]) -> Float[Tensor, "n d"]:
        """Embeddings of captions, in their order, a bounded number at a time."""
        assert self.condition is not None
        parts = [captions[first : first + CHUNK] for first in range(0, len(captions), CHUNK)]
        return torch.cat([self.condition(to_device(self.condition.read(part), self.device)) for part in parts])


def _condition_of(generator: Generator) -> Condition | None:
    return getattr(generator, "condition", None)


def _untrained_copy(generator: Generator, device: torch.device) -> Condition:
    condition = _condition_of(generator)
    assert condition is not None
    copy: Condition = condition.spec.build().to(device).eval().requires_grad_(False)
    return copy
