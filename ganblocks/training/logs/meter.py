"""Means of the losses and other scalars between two log lines."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Meter:
    """Averages scalars by name. They stay on their device until `read`, so that no step waits for the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor | int] = {}

    def add(self, values: Mapping[str, Tensor], *, where: Tensor | None = None) -> None:
        """Add values; those for which `where` is false are left out."""
        for name, value in values.items():
            value, count = value.detach().float(), 1 if where is None else where.long()
            if where is not None:
                value = torch.where(where, value, 0.0)
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + count

    def read(self) -> dict[str, float]:
        """The means since the last call, always in the same order."""
        counts = {name: int(count) for name, count in self.counts.items()}
        means = {name: (self.sums[name] / count).item() for name, count in counts.items() if count}
        self.sums, self.counts = {}, dict.fromkeys(self.counts, 0)
        return means
