"""The processes that share the images of a metric."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor, distributed

from ganblocks.transfer import usable_device


class Processes(NamedTuple):
    """This process among those that `accelerate launch` or `torchrun` started.

    Args:
        rank: Its number.
        world: Number of processes.
        device: Its device.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, num: int) -> range:
        """The indices that this process handles: every `world`-th."""
        return range(self.rank, num, self.world)

    def all(self, flag: bool) -> bool:
        """Whether the flag is true in all processes."""
        return bool(self.gather(torch.tensor([flag]), self.world).all())

    def gather(self, part: Shaped[Tensor, "m ..."], num: int) -> Shaped[Tensor, "n ..."]:
        """The rows of all processes, in order of their indices, on the CPU.

        Args:
            part: The rows of the indices in `share(num)`.
            num: Number of rows of all processes.
        """
        if self.world == 1:
            return part.cpu()
        rows = -(-num // self.world)  # processes with one row less send a row of zeros
        padded = torch.cat([part, part.new_zeros(rows - len(part), *part.shape[1:])]).to(self.device)
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        distributed.all_gather(parts, padded)
        return torch.stack([each.cpu() for each in parts], dim=1).flatten(0, 1)[:num]


def join_processes(device: str | None = None) -> Processes:
    """This process, after it has joined the others.

    Args:
        device: Its device; None for its accelerator, or the CPU if there is none.

    Raises:
        RunError: The device cannot be used.
    """
    from accelerate import PartialState  # here, because it takes seconds to import

    chosen = None if device is None else usable_device(device)
    on_cpu = chosen.type == "cpu" if chosen else not torch.accelerator.is_available()
    state = PartialState(cpu=on_cpu)
    unnumbered = chosen is not None and (chosen.type == state.device.type and chosen.index is None)
    return Processes(state.process_index, state.num_processes, state.device if unnumbered or chosen is None else chosen)
