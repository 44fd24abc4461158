"""Means of the losses and other scalars between two log lines, and the memory in use."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import torch
from torch import Tensor


class Meter:
    """Averages scalars by name. They stay on their device until `read`, so that no step waits for the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor], *, where: Tensor | None = None) -> None:
        """Add values; those for which `where` is false are left out."""
        for name, value in values.items():
            value = value.detach().float()
            if name not in self.sums:
                self.sums[name], self.counts[name] = torch.zeros_like(value), torch.zeros_like(value)
            self.sums[name] += value if where is None else torch.where(where, value, 0.0)
            self.counts[name] += 1 if where is None else where

    def state(self) -> list[dict[str, Tensor]]:
        """Copies of the sums and counts so far, for `restore`."""
        return [{name: value.clone() for name, value in each.items()} for each in (self.sums, self.counts)]

    def restore(self, state: list[dict[str, Tensor]]) -> None:
        """Forget what was added since `state` was called."""
        self.sums, self.counts = state

    def read(self) -> dict[str, float]:
        """The means since the last call, always in the same order."""
        means = {name: (self.sums[name] / count).item() for name, count in self.counts.items() if count}
        for total in (*self.sums.values(), *self.counts.values()):
            total.zero_()
        return means


def peak_memory(device: torch.device) -> float | None:
    """Largest memory so far in GB: of tensors on a CUDA device, otherwise of this process; None where it is unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
