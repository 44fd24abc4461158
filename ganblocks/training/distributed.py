"""Where a training runs: the device, the precision, and the processes that share the work.

The two networks of a GAN, called several times in a step and differentiated twice, do not go into
DistributedDataParallel; gradients are averaged by hand instead, all of a network in one exchange.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed

from ganblocks.data.loader import Shard
from ganblocks.errors import RunError
from ganblocks.precision import Precision, refuse_on_cpu

if TYPE_CHECKING:
    from accelerate import Accelerator


class DistributedContext:
    """This process among those that train together, as `accelerate launch` or `torchrun` started them.

    Args:
        device: Where to compute; by default the accelerator of this process, or the CPU.
        precision: Mixed precision of the forward passes: no, bf16 or fp16.
    """

    def __init__(self, device: str | torch.device | None = None, precision: Precision = "no") -> None:
        try:
            chosen = torch.device(device) if device is not None else None
            torch.zeros(1, device=chosen)
        except (RuntimeError, AssertionError) as error:
            raise RunError(f"the device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
        on_cpu = chosen.type == "cpu" if chosen else not torch.accelerator.is_available()
        refuse_on_cpu(precision, on_cpu=on_cpu)
        self.accelerator = _accelerator(precision, on_cpu)
        self.device = chosen or self.accelerator.device
        self.precision: Precision = precision
        self.shard = Shard(self.accelerator.process_index, self.accelerator.num_processes)
        self.scaler = self.accelerator.scaler

    @property
    def is_main(self) -> bool:
        return self.shard.rank == 0

    def autocast(self, enabled: bool = True) -> AbstractContextManager[object]:
        """Mixed precision, if the training has it; `enabled=False` turns it off inside."""
        if enabled:
            precise: AbstractContextManager[object] = self.accelerator.autocast()
            return precise
        return torch.autocast(self.device.type, enabled=False)

    def all_reduce_mean(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over all processes."""
        if self.shard.world == 1 or not tensors:
            return
        flat = self.accelerator.reduce(torch.cat([tensor.flatten() for tensor in tensors]), reduction="mean")
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        if self.shard.world == 1:
            return flag
        raised = self.accelerator.reduce(torch.tensor(float(flag), device=self.device))
        return bool(raised.item())

    def barrier(self) -> None:
        """Until all processes are here."""
        self.accelerator.wait_for_everyone()


def _accelerator(precision: Precision, on_cpu: bool) -> Accelerator:
    from accelerate import Accelerator  # here, because they take seconds to import
    from accelerate.state import AcceleratorState

    # a process has one state, and a second training in it may want another precision
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision, cpu=on_cpu)


def destroy_process_group() -> None:
    """At the very end of a program of several processes: without it, the first to go would tear down the others."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
