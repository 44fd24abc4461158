"""Gradient accumulation: passes over parts of a batch, whose gradients add up to that of the whole batch.

Losses are means over images, so the parts' losses are weighted by their numbers of images. Means over the whole batch
inside of a loss, `Networks.batch_mean`, are computed by a first round of passes, which draws the same random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from blocks.common.replay import random_state, set_random_state
from blocks.families import Batch


class PhaseLosses(NamedTuple):
    """Scalars of a pass: means over its images.

    Args:
        losses: The terms of the loss by name.
        observed: Other values by name.
    """

    losses: dict[str, Tensor]
    observed: dict[str, Tensor]


class MicroBatches:
    """Splits batches into parts, and runs the passes of a phase over them.

    Args:
        size: Images of a part; None for the whole batch. The last part may be smaller.
        module: Its buffers are at each part what they were at the first one, and become the mean over the parts: a
            running mean moves as by the whole batch.
        all_reduce_mean: Replaces tensors by their means over all processes.
    """

    def __init__(self, size: int | None, module: nn.Module, all_reduce_mean: Callable[[list[Tensor]], None]) -> None:
        self.size, self.module, self.all_reduce_mean = size, module, all_reduce_mean
        self.recorded: list[Tensor] | None = None
        self.known: Iterator[Tensor] | None = None

    def batch_mean(self, values: Tensor) -> Tensor:
        """The mean of values over the whole batch of all processes, without gradients; `Networks.batch_mean`."""
        if self.known is not None:
            return next(self.known)
        mean = values.detach().mean()
        if self.recorded is not None:
            self.recorded.append(mean)
        else:
            self.all_reduce_mean([mean])
        return mean

    def parts(self, batch: Batch) -> Iterator[tuple[Batch, float]]:
        """The parts of a batch, each with its share of the images."""
        if self.size is None or (count := _num_images(batch)) <= self.size:
            yield batch, 1.0
            return
        size = self.size
        buffers = [buffer for buffer in self.module.buffers() if buffer.is_floating_point()]
        before = [buffer.clone() for buffer in buffers]
        moved = [torch.zeros_like(buffer) for buffer in buffers]
        for first in range(0, count, size):
            part = Batch(*(None if each is None else each[first : first + size] for each in batch))
            share = min(size, count - first) / count
            yield part, share
            with torch.no_grad():
                for total, buffer, old in zip(moved, buffers, before, strict=True):
                    total.add_(torch.where(buffer == old, 0.0, buffer - old), alpha=share)  # masks have infinities
                    buffer.copy_(old)
        with torch.no_grad():
            for buffer, total in zip(buffers, moved, strict=True):
                buffer.add_(total)

    def run(
        self,
        batch: Batch,
        forward: Callable[[Batch], PhaseLosses],
        backward: Callable[[PhaseLosses, float], None],
        *,
        needs_means: bool,
    ) -> PhaseLosses:
        """Call `forward` and `backward`, which takes the share too, with each part.

        Args:
            batch: The whole batch of this process.
            forward: Losses of a part.
            backward: Adds the gradients of a part's losses, weighted by its share.
            needs_means: Whether `forward` calls `batch_mean`.

        Returns:
            Losses of the whole batch of this process, without gradients.
        """
        several = self.size is not None and _num_images(batch) > self.size
        means = self.means(batch, forward) if needs_means and several else None
        total = PhaseLosses({}, {})
        for part, share in self.parts(batch):
            self.known = None if means is None else iter(means)
            losses = forward(part)
            self.known = None
            backward(losses, share)
            for sums, values in zip(total, losses, strict=True):
                for name, value in values.items():
                    sums[name] = sums.get(name, 0) + value.detach() * share
        return total

    def means(self, batch: Batch, forward: Callable[[Batch], PhaseLosses]) -> list[Tensor]:
        """The means over the whole batch of all processes, in the order in which a pass calls `batch_mean`."""
        device = next(each.device for each in batch if each is not None)
        state, buffers = random_state(device), [(buffer, buffer.clone()) for buffer in self.module.buffers()]
        means: list[Tensor] = []
        for part, share in self.parts(batch):
            self.recorded = []
            forward(part)
            shares = [mean * share for mean in self.recorded]
            means = [total + mean for total, mean in zip(means, shares, strict=True)] if means else shares
            self.recorded = None
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        set_random_state(device, state)
        self.all_reduce_mean(means)
        return means


def _num_images(batch: Batch) -> int:
    return next(len(each) for each in batch if each is not None)


def observed_logits(network: str, batch: Batch) -> dict[str, Tensor]:
    """Mean logits, the mean sign of those of real images, and whether all of these are above all of generated ones.

    There is nothing to observe in the generator's step.
    """
    if network != "discriminator" or batch.real_logits is None or batch.fake_logits is None:
        return {}
    real, fake = batch.real_logits.detach(), batch.fake_logits.detach()
    observed = {"logits/real": real.mean(), "logits/fake": fake.mean(), "sign/real": real.sign().mean()}
    return observed | {"collapse/separated": (real.amin() > fake.amax()).float()}
