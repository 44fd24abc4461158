"""The device, the precision and the processes of a training.

The two networks of a GAN are called several times in a step and differentiated twice, which DistributedDataParallel
does not support. Gradients are averaged explicitly instead, all of a network in one all-reduce.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed

from ganblocks import precision as mixed_precision
from ganblocks.data.loader import Shard
from ganblocks.errors import RunError
from ganblocks.precision import Precision
from ganblocks.transfer import to_device, usable_device

if TYPE_CHECKING:
    from accelerate import Accelerator

    from assemblies import GAN, Generator
    from ganblocks.training.step.sharding import Sharding


class DistributedContext:
    """This process among those that `accelerate launch` or `torchrun` started.

    Args:
        device: Device of this process; None for its accelerator, or the CPU if there is none.
        precision: Precision of the forward passes; None for the device's default.

    Raises:
        RunError: The device cannot be used, or the precision needs a GPU.
    """

    def __init__(self, device: str | torch.device | None = None, precision: Precision | None = None) -> None:
        chosen = usable_device(device) if device is not None else None
        on_cpu = chosen.type == "cpu" if chosen else not torch.accelerator.is_available()
        if precision is not None:
            mixed_precision.refuse_fp16_on_cpu(precision, on_cpu=on_cpu)
        self.accelerator = _accelerator(precision, on_cpu)
        self.device = chosen or self.accelerator.device
        self.precision = precision or mixed_precision.default_precision(self.device.type)
        self.shard = Shard(self.accelerator.process_index, self.accelerator.num_processes)
        self.scaler = self.accelerator.scaler
        self.forces_float32 = False
        # its tensors are on the CPU, so that an exchange of flags does not wait for the device
        self.host_group = self.new_host_group() if self.shard.world > 1 else None

    @property
    def is_main(self) -> bool:
        return self.shard.rank == 0

    def new_host_group(self) -> distributed.ProcessGroup:
        """A group of all processes that exchanges tensors on the CPU, independent of other groups; all call it."""
        group: distributed.ProcessGroup = distributed.new_group(backend="gloo")
        return group

    def autocast(self, enabled: bool = True) -> AbstractContextManager[object]:
        """The mixed precision of the training's forward passes; `enabled=False` turns it off inside."""
        if enabled and not self.forces_float32:
            return mixed_precision.autocast(self.precision, self.device)
        return torch.autocast(self.device.type, enabled=False)

    def tf32(self, enabled: bool = True) -> AbstractContextManager[object]:
        """TF32 if that is the training's precision, in forward and backward passes; `enabled=False` turns it off."""
        return mixed_precision.tf32(enabled and self.precision == "tf32" and not self.forces_float32, self.device)

    @contextmanager
    def float32(self) -> Iterator[None]:
        """A context in which `autocast` and `tf32` are off."""
        self.forces_float32 = True
        try:
            with self.autocast(enabled=False), self.tf32(enabled=False):
                yield
        finally:
            self.forces_float32 = False

    def all_reduce_mean(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, all in one exchange."""
        if self.shard.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with self.exchange():
            distributed.all_reduce(flat)
        flat /= self.shard.world
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def shard_networks(self, gan: GAN, average: Generator) -> Sharding:
        """Shard the networks of a GAN and its averaged generator over the processes."""
        from ganblocks.training.step.sharding import Sharding  # here, because it takes seconds to import

        return Sharding(gan, average, self)

    def norms(self, tensors: list[Tensor], sharded: list[bool]) -> Tensor:
        """Norms [n] of tensors; where `sharded` is true, each process has a part of them."""
        norms = torch.stack(torch._foreach_norm(tensors))
        if not any(sharded):
            return norms
        share = torch.tensor([1.0 if each else 1 / self.shard.world for each in sharded], dtype=norms.dtype)
        squares = norms.square() * to_device(share, norms.device)
        with self.exchange():
            distributed.all_reduce(squares)
        return squares.sqrt()

    def means(self, values: Mapping[str, float]) -> dict[str, float]:
        """The means of numbers over all processes, which have the same names in each."""
        if self.shard.world == 1 or not values:
            return dict(values)
        total = torch.tensor(list(values.values()), dtype=torch.float64)
        with self.exchange():
            distributed.all_reduce(total, group=self.host_group)
        return dict(zip(values, (total / self.shard.world).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether the flag is true in any process."""
        if self.shard.world == 1:
            return flag
        count = torch.tensor(int(flag))
        with self.exchange():
            distributed.all_reduce(count, group=self.host_group)
        return bool(count)

    def barrier(self) -> None:
        """Wait until all processes are here."""
        with self.exchange():
            self.accelerator.wait_for_everyone()

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """A context in which a connection that another process has closed, since it died, is a RunError."""
        try:
            yield
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            if not any(word in reason.lower() for word in ("connection", "peer", "nccl", "socket", "timed out")):
                raise
            raise RunError(
                f"process {self.shard.rank} of {self.shard.world} has lost another one, which printed why, unless it "
                f"was killed ({reason}). The last checkpoint is kept: continue with --resume"
            ) from error


def _accelerator(precision: Precision | None, on_cpu: bool) -> Accelerator:
    from accelerate import Accelerator  # here, because they take seconds to import
    from accelerate.state import AcceleratorState

    # accelerate keeps one state per process, but a second training may use another precision
    AcceleratorState._reset_state()
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) and not distributed.is_initialized():
        _join_restarted(on_cpu)
    return Accelerator(mixed_precision=precision if precision in mixed_precision.DTYPES else "no", cpu=on_cpu)


def _join_restarted(on_cpu: bool) -> None:
    """Open the process group after a restart by torchrun, whose store still has the addresses of the dead processes."""
    from torch.distributed.rendezvous import rendezvous

    store, rank, world = next(rendezvous("env://"))
    prefix = f"restart-{os.environ['TORCHELASTIC_RESTART_COUNT']}"
    store = distributed.PrefixStore(prefix, store)  # type: ignore[attr-defined]
    backend = "gloo" if on_cpu else None  # None: NCCL for CUDA and gloo for the CPU
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world)


def destroy_process_group() -> None:
    """Close the process group at the end of a program, when no process needs the others any more."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
