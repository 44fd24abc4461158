"""Optimizer steps whose gradients are not finite: they are skipped, and counted on the device.

By the policy `skip` training goes on. `stop` ends it, and waits for the device once a step. `retry-in-float32` runs the
phase again without mixed precision and TF32, and waits once a phase.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from blocks.common.replay import random_state, set_random_state
from ganblocks.errors import RunError
from ganblocks.precision import Precision
from ganblocks.training.distributed import DistributedContext
from ganblocks.training.logs.meter import Meter
from ganblocks.training.options import NonFinitePolicy

NAMED = 3  # parameters that a message names
MAX_NON_FINITE = 20  # skipped optimizer steps in a row, after which training stops by every policy


class NonFiniteSteps:
    """Counts skipped optimizer steps and the parameters at fault. No step waits for the device; `read` does.

    Args:
        device: Device of the gradients.
    """

    def __init__(self, device: torch.device) -> None:
        # by phase and parameters, [1 + n]: all such steps, then those of each parameter
        self.counts: dict[tuple[str, tuple[str, ...]], Tensor] = {}  # skipped
        self.retried: dict[tuple[str, tuple[str, ...]], Tensor] = {}
        self.retries = False  # whether a step that is skipped now will be retried
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
        counts = self.retried if self.retries else self.counts
        if key not in counts:
            counts[key] = torch.zeros_like(by_name, dtype=torch.int64)
        counts[key] += by_name
        self.in_a_row.add_(0 if self.retries else 1).mul_(skipped)
        torch.maximum(self.longest, self.in_a_row, out=self.longest)

    def read_longest(self) -> int:
        """The largest number of skipped steps in a row since the last `read`."""
        return int(self.longest.item())

    def read(self) -> dict[str, int]:
        """Number of skipped steps since the last call, by network, phase and parameters."""
        self.longest.copy_(self.in_a_row)
        return _read(self.counts)

    def read_retried(self) -> dict[str, int]:
        """Number of retried steps since the last call, by network, phase and parameters."""
        return _read(self.retried)

    def divergence(self, step: int, images: int) -> str | None:
        """Why training should stop before a step, if too many steps in a row were skipped since the last `read`."""
        in_a_row = self.read_longest()
        if in_a_row < MAX_NON_FINITE:
            return None
        return (
            f"gradients were not finite {in_a_row} times in a row, before step {step} ({images} images). "
            "Training stops; the last checkpoint is older than this. Try a lower learning rate, a larger gamma, or "
            "precision fp32"
        )


class Float32Retry:
    """Runs a phase of a step, and once more in float32, with the same random numbers, if its result is not finite.

    Args:
        distributed: Precision and processes, which decide together.
        module: Its buffers are at the second run what they were at the first.
        meters: What the first run added to them is dropped.
        steps: Counts the retried optimizer steps.
    """

    def __init__(
        self, distributed: DistributedContext, module: nn.Module, meters: Sequence[Meter], steps: NonFiniteSteps
    ) -> None:
        self.distributed, self.module, self.meters, self.steps = distributed, module, meters, steps

    def __call__(self, phase: Callable[[], Tensor]) -> Tensor:
        """The result of a phase: images or the norm of gradients."""
        device = self.distributed.device
        random = random_state(device)
        buffers = [(buffer, buffer.clone()) for buffer in self.module.buffers()]
        meters = [(meter, meter.state()) for meter in self.meters]
        self.steps.retries = True
        try:
            result = phase()
        finally:
            self.steps.retries = False
        if not self.distributed.any(not result.isfinite().all().item()):
            return result
        set_random_state(device, random)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for meter, state in meters:
            meter.restore(state)
        with self.distributed.float32():
            return phase()


def check_policy(policy: NonFinitePolicy, precision: Precision, *, cuda_graphs: bool) -> None:
    """Check that a policy makes sense in a training.

    Raises:
        RunError: It does not.
    """
    if policy == "retry-in-float32" and precision == "fp32":
        raise RunError("--non-finite retry-in-float32: the precision is fp32 already; take skip or stop")
    if policy == "retry-in-float32" and cuda_graphs:
        raise RunError("--non-finite retry-in-float32: a CUDA graph cannot choose the precision; omit --cuda-graphs")
    if policy == "stop" and precision == "fp16":
        raise RunError(
            "--non-finite stop: fp16 skips steps to find its loss scale; take retry-in-float32, skip or bf16"
        )


def _read(counted: dict[tuple[str, tuple[str, ...]], Tensor]) -> dict[str, int]:
    steps: dict[str, int] = {}
    for (phase, names), counts in counted.items():
        times, *by_name = counts.tolist()
        if times:
            at_fault = [name for name, count in zip(names, by_name, strict=True) if count]
            steps[f"{phase}: {_listed(at_fault)}"] = times
        counts.zero_()
    return steps


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}" or "their total norm only"
