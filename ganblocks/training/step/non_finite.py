"""Optimizer steps that are skipped because a gradient is not finite, counted on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NAMED = 3  # parameters that a message names


class NonFiniteSteps:
    """Counts skipped optimizer steps and the parameters at fault. No step waits for the device; `read` does.

    Args:
        device: Device of the gradients.
    """

    def __init__(self, device: torch.device) -> None:
        # by phase and parameters, [1 + n]: all skipped steps, then those of each parameter
        self.counts: dict[tuple[str, tuple[str, ...]], Tensor] = {}
        self.in_a_row = torch.zeros((), dtype=torch.int64, device=device)
        self.longest = torch.zeros_like(self.in_a_row)  # since the last `read`

    def add(self, phase: str, names: Sequence[str], norms: Tensor, finite: Tensor) -> None:
        """Add an optimizer step.

        Args:
            phase: Network and losses of the step.
            names: Names of the parameters that have a gradient.
            norms: Norms of their gradients [n].
            finite: Whether the norm of all gradients together is finite.
        """
        skipped = ~finite
        by_name = torch.cat([skipped[None], ~norms.isfinite()])
        key = (phase, tuple(names))
        if key not in self.counts:
            self.counts[key] = torch.zeros_like(by_name, dtype=torch.int64)
        self.counts[key] += by_name
        self.in_a_row.add_(1).mul_(skipped)
        torch.maximum(self.longest, self.in_a_row, out=self.longest)

    def read_longest(self) -> int:
        """The largest number of skipped steps in a row since the last `read`."""
        return int(self.longest.item())

    def read(self) -> dict[str, int]:
        """Number of skipped steps since the last call, by network, phase and parameters."""
        steps: dict[str, int] = {}
        for (phase, names), counts in self.counts.items():
            times, *by_name = counts.tolist()
            if times:
                at_fault = [name for name, count in zip(names, by_name, strict=True) if count]
                steps[f"{phase}: {_listed(at_fault)}"] = times
            counts.zero_()
        self.longest.copy_(self.in_a_row)
        return steps


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}" or "their total norm only"
