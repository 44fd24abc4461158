"""Writes the checkpoint and the model of a run, at once or in the background while the training goes on."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from assemblies.model_file import network_metadata, save_tensors
from blocks.weight_norm.converge import converged_weight_norms
from ganblocks.training.checkpoint import (
    checkpoint_record,
    checkpoint_tensors,
    read_checkpoint_record,
    save_checkpoint,
)
from ganblocks.training.run.folder import RunFolder, disk_errors
from ganblocks.training.run.shards import FOLDER, Shards, failure_of_a_process, save_shards
from ganblocks.training.run.snapshots import model_extra, save_run_model
from ganblocks.training.trainer import Trainer


class CheckpointWriter:
    """A context at whose end the write in the background has ended, and what failed in it is raised.

    Args:
        folder: The run folder.
        trainer: The training.
        run_record: The record of the run, from `describe_run`.
        background: Whether `write` may return before the files are written. One write runs at a time.
    """

    def __init__(self, folder: RunFolder, trainer: Trainer, run_record: Mapping[str, Any], *, background: bool) -> None:
        self.folder, self.trainer, self.run_record = folder, trainer, run_record
        self.distributed = trainer.distributed
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint") if background else None
        self.running: Future[None] | None = None
        self.copies: dict[str, dict[str, Tensor]] = {}
        self.last_shards: int | None = None  # the number of their folder
        separate = background and trainer.sharding is not None
        self.group = self.distributed.new_host_group() if separate else self.distributed.host_group

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, _type: type | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        try:
            self.wait()
        except Exception as failure:
            if error is None:
                raise
            warnings.warn(f"the last checkpoint could not be written: {failure}", stacklevel=2)
        finally:
            if self.thread is not None:
                self.thread.shutdown()

    def wait(self) -> None:
        """Wait until the files are written.

        Raises:
            RunError: They could not be written: the disk is full, or another process died. The last ones are kept.
        """
        running, self.running = self.running, None
        if running is not None:
            running.result()

    def raise_failure(self) -> None:
        """Raise what failed in the background, without waiting."""
        if self.running is not None and self.running.done():
            self.wait()

    def write(self, *, background: bool = False) -> None:
        """Write the state of the training; all processes call it.

        Args:
            background: Whether to copy the state to memory and to return before it is written, if that was enabled.

        Raises:
            RunError: It could not be written, as in `wait`.
        """
        self.wait()
        trainer, is_main = self.trainer, self.distributed.is_main
        background = background and self.thread is not None
        shards = None if trainer.sharding is None else self.next_shards()
        if shards is None and not is_main:
            return
        record, state = checkpoint_record(trainer, self.run_record), checkpoint_tensors(trainer)
        saving: Future[Any] | None = None
        with trainer.gathered():
            tensors = (*state.values(), *trainer.generator_ema.state_dict().values())
            num_bytes = sum(each.nbytes for each in tensors)
            if shards is not None:
                with self.writing_shards(shards, num_bytes):
                    saving = save_shards(shards, state, self.group, background=background)
                state = {}
            write_model: Callable[[Path], None] = partial(save_run_model, trainer=trainer, run_record=self.run_record)
            if background and is_main:
                state, write_model = self.copy("checkpoint", state), self.copied_model()
            finish = partial(self.finish, record, state, write_model, num_bytes, shards, saving)
            if not background:
                finish()
        if background:
            assert self.thread is not None
            self.running = self.thread.submit(finish)

    def finish(
        self,
        record: Mapping[str, Any],
        state: Mapping[str, Tensor],
        write_model: Callable[[Path], None],
        num_bytes: int,
        shards: Path | None,
        saving: Future[Any] | None,
    ) -> None:
        """Wait for the shards; then the first process replaces checkpoint and model."""
        if saving is not None and shards is not None:
            with self.writing_shards(shards, num_bytes):
                saving.result()
        if not self.distributed.is_main:
            return
        if shards is not None:
            record = {**record, "shards": Shards.of(shards).model_dump()}
        try:
            with self.folder.replacing_state(num_bytes) as (checkpoint, model):
                save_checkpoint(checkpoint, record, state)
                write_model(model)
        finally:
            last = self.saved_shards()
            for each in self.folder.path.glob(f"{FOLDER}*"):
                if last is None or each.name != last.folder:
                    shutil.rmtree(each, ignore_errors=True)

    def next_shards(self) -> Path:
        """The folder of the next shards, empty or absent; all processes call it."""
        if self.last_shards is None:  # no process replaces the checkpoint before all have written their first shards
            last = self.saved_shards()
            self.last_shards = 0 if last is None else last.number
        self.last_shards += 1
        shards = self.folder.path / f"{FOLDER}{self.last_shards}"
        if self.distributed.is_main:
            shutil.rmtree(shards, ignore_errors=True)  # of a process that was killed
        self.distributed.barrier()
        return shards

    def saved_shards(self) -> Shards | None:
        """The shards of the checkpoint in the run folder; None if there is none, or if it is one file."""
        checkpoint = self.folder.checkpoint
        return read_checkpoint_record(checkpoint).shards if checkpoint.exists() else None

    @contextmanager
    def writing_shards(self, shards: Path, num_bytes: int) -> Iterator[None]:
        """A context in which what fails in any process is raised in all of them, and removes the shards."""
        try:
            with disk_errors(self.folder.checkpoint, num_bytes), self.distributed.exchange(), failure_of_a_process():
                yield
        except BaseException:
            if self.distributed.is_main:
                shutil.rmtree(shards, ignore_errors=True)
            raise

    def copied_model(self) -> Callable[[Path], None]:
        """Writes the averaged generator as it is now."""
        average, extra = self.trainer.generator_ema, model_extra(self.trainer, self.run_record)
        with converged_weight_norms(average):
            state = self.copy("model", average.state_dict())
        return partial(save_tensors, spec=average.spec, state=state, metadata=network_metadata(average), extra=extra)

    @torch.no_grad()
    def copy(self, part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies on the CPU, in memory that is kept for the next write."""
        copies = self.copies.setdefault(part, {})
        for name, value in tensors.items():
            if name not in copies:
                copies[name] = torch.empty(value.shape, dtype=value.dtype)
            copies[name].copy_(value)
        return dict(copies)
