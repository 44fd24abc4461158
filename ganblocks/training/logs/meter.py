"""Means of the losses and other scalars between two log lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torch import Tensor


class Meter:
    """Averages scalars by name. They stay on their device until `read`, so that no step waits for the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.non_finite: Counter[str] = Counter()

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """The means since the last call, always in the same order."""
        means = {name: (self.sums[name] / count).item() for name, count in self.counts.items() if count}
        self.sums, self.counts = {}, dict.fromkeys(self.counts, 0)
        return means

    def read_non_finite(self) -> dict[str, int]:
        """Number of skipped optimizer steps since the last call, by network, phase and parameters."""
        counts, self.non_finite = dict(self.non_finite), Counter()
        return counts
