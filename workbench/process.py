"""Where a training runs: the device, the precision, and the processes that share the work.

The two networks of a GAN, called several times in a step and differentiated twice, do not go into
DistributedDataParallel; gradients are averaged by hand instead, all of a network in one exchange.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, distributed

from workbench.errors import RunError
from workbench.stream import Share

Precision = Literal["no", "bf16", "fp16"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Process:
    """This process among those that train together, as `accelerate launch` or `torchrun` started them.

    Args:
        device: Where to compute; by default the accelerator of this process, or the CPU.
        precision: Mixed precision of the forward passes: no, bf16 or fp16.
    """

    def __init__(self, device: str | torch.device | None = None, precision: Precision = "no") -> None:
        from accelerate import PartialState  # here, because it takes seconds to import

        state = PartialState(cpu=not torch.accelerator.is_available())
        try:
            self.device = torch.device(device) if device is not None else state.device
            torch.zeros(1, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise RunError(f"the device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
        if precision == "fp16" and self.device.type == "cpu":
            raise RunError("fp16 needs a GPU; take precision bf16 or no on the CPU")
        self.precision: Precision = precision
        many = distributed.is_available() and distributed.is_initialized()
        self.share = Share(distributed.get_rank(), distributed.get_world_size()) if many else Share()
        self.scaler = torch.amp.GradScaler(self.device.type) if precision == "fp16" else None

    @property
    def is_main(self) -> bool:
        return self.share.rank == 0

    def mixed(self, enabled: bool = True) -> AbstractContextManager[object]:
        """Mixed precision, if the training has it; `enabled=False` turns it off inside."""
        if self.precision == "no":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.precision], enabled=enabled)

    def mean(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over all processes."""
        if self.share.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.share.world
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        if self.share.world == 1:
            return flag
        raised = torch.tensor(float(flag), device=self.device)
        distributed.all_reduce(raised)
        return bool(raised.item())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.share.world > 1:
            distributed.barrier()


def leave_group() -> None:
    """At the very end of a program of several processes: without it, the first to go would tear down the others."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
