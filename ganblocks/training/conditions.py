"""From what is told of the images of a batch to the condition c, the same after a resume as without one.

A caption's embedding depends, in its last bits, on what is embedded beside it. A data set of not too many captions has
them all embedded before the first step, in one order; one of more has each batch embedded by itself.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from assemblies import Generator
from blocks.families import Condition
from ganblocks.data.dataset import Images
from ganblocks.data.loader import RealBatch
from ganblocks.errors import DataError
from ganblocks.sampling.generate import one_hot

IN_MEMORY = 2**16  # captions whose embeddings are held
CHUNK = 256


class Conditions:
    """Conditions of batches of a data set.

    Args:
        generator: What they are for.
        images: The data set.
        device: Where they go.
        learning: Whether the generator's own condition learns.
    """

    def __init__(self, generator: Generator, images: Images, device: torch.device, *, trainable: bool = False) -> None:
        self.generator, self.device, self.trainable = generator, device, trainable
        self.condition = self._untrained()
        self.rows: dict[str, int] = {}
        if self.takes_captions and images.captions is not None:
            captions = sorted({caption for each in images.captions for caption in each})
            if len(captions) <= IN_MEMORY:
                self.rows = {caption: row for row, caption in enumerate(captions)}
                self.table = self.embed(captions)

    @property
    def takes_captions(self) -> bool:
        return self.condition is not None and self.condition.condition_input == "captions"

    def of(self, batch: RealBatch) -> Float[Tensor, "b d"] | None:
        """The condition of a batch; None for a generator that takes none."""
        if not self.generator.cond_dim:
            return None
        if self.takes_captions:
            if batch.captions is None:
                raise DataError("the generator wants captions, the images have none")
            if not self.rows:
                return self.embed(list(batch.captions))
            return self.table[[self.rows[caption] for caption in batch.captions]]
        if batch.labels is None:
            return None
        if self.condition is not None:
            with torch.no_grad():
                c: Tensor = self.condition(batch.labels)
            return c
        return one_hot(batch.labels, self.generator.cond_dim)

    def read(self, batch: RealBatch) -> Int64[Tensor, "b n"] | None:
        """A batch's captions in integers, for a condition that learns."""
        if not self.trainable or batch.captions is None:
            return None
        assert self.condition is not None
        return self.condition.read(batch.captions).to(self.device)

    @torch.no_grad()
    def embed(self, captions: list[str]) -> Float[Tensor, "n d"]:
        """Captions in order, a bounded number at once."""
        assert self.condition is not None
        parts = [captions[first : first + CHUNK] for first in range(0, len(captions), CHUNK)]
        return torch.cat([self.condition(self.condition.read(part).to(self.device)) for part in parts])

    def _untrained(self) -> Condition | None:
        """What makes the conditions that both networks are judged by: where the generator's own learns, as it began."""
        condition = getattr(self.generator, "condition", None)
        if not self.trainable:
            return condition
        assert condition is not None
        fresh: Condition = condition.spec.build().to(self.device).eval().requires_grad_(False)
        return fresh


class OwnCondition(nn.Module):
    """A generator whose styles come from its own reading of `told`, which learns; others are told c.

    Anything else asked of it, the generator answers.
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.told: Tensor | None = None

    def mapping(self, z: Float[Tensor, "b z"], c: Float[Tensor, "b d"] | None = None, **more: Any) -> Tensor:
        assert self.told is not None
        ws: Tensor = self.generator.mapping(z, self.generator.condition(self.told), **more)  # type: ignore[operator]
        return ws

    def forward(self, z: Float[Tensor, "b z"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b k h w"]:
        image: Tensor = self.generator.synthesis(self.mapping(z, c))  # type: ignore[operator]
        return image

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.generator, name)
