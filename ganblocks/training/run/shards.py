"""Tensors of a sharded training, by torch.distributed.checkpoint: each process writes its parts as a .safetensors file.

https://docs.pytorch.org/docs/stable/distributed.checkpoint.html. Any number of processes reads them. Nothing is
pickled: the parts say in their headers which they are, and the checkpoint lists the files.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from torch import Tensor

from assemblies import CheckpointError

FOLDER = "checkpoint-shards-"  # and a number


class Shards(BaseModel):
    """The files with the tensors of a checkpoint.

    Args:
        folder: Their folder, beside the checkpoint. Each checkpoint has a new one, so that a copy of the run folder
            that was made during a training never combines tensors of several checkpoints.
        files: Their sizes in bytes, by name.
    """

    model_config = ConfigDict(frozen=True)

    folder: str = Field(pattern=f"^{FOLDER}[0-9]{{1,9}}$")
    files: dict[str, NonNegativeInt]

    @property
    def number(self) -> int:
        return int(self.folder.removeprefix(FOLDER))

    @classmethod
    def of(cls, folder: Path) -> Shards:
        """The files in a folder."""
        files = {file.name: file.stat().st_size for file in sorted(folder.glob("*.safetensors"))}
        return cls.model_validate({"folder": folder.name, "files": files})


def save_shards(folder: Path, tensors: Mapping[str, Tensor], group: Any, *, background: bool) -> Future[Any] | None:
    """Write the parts of this process of each tensor; all processes call it.

    Args:
        folder: The folder, empty or absent.
        tensors: The tensors; those that are not sharded are written by the first process.
        group: A process group with a back end for the CPU. In the background nothing else uses it.
        background: Whether tensors are only copied to memory now; the result of the future then ends the write.

    Raises:
        CheckpointException: A process cannot write its file: see `failure_of_a_process`.
    """
    from torch.distributed.checkpoint.default_planner import DefaultSavePlanner  # here: they take seconds to import
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import async_save, save

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    planner = DefaultSavePlanner(dedup_save_to_lowest_rank=True)
    values = {name: value.detach() for name, value in tensors.items()}
    start: Any = async_save if background else save
    saving = start(values, storage_writer=writer, planner=planner, process_group=group)
    return saving if background else None


class ShardReader:
    """Reads tensors of a checkpoint.

    Args:
        checkpoint: The file of the checkpoint.
        shards: What it says about its shards.

    Raises:
        CheckpointError: Files are missing or damaged.
    """

    def __init__(self, checkpoint: Path, shards: Shards) -> None:
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

        self.folder = checkpoint.with_name(shards.folder)
        if Shards.of(self.folder) != shards:
            raise CheckpointError(
                f"{self.folder} does not have the {len(shards.files)} files of {checkpoint}, or not with the same "
                f"sizes; copy a run folder with all that is in it"
            )
        self.reader = HuggingFaceStorageReader(str(self.folder))
        with self.errors():
            metadata: Any = self.reader.read_metadata()
            self.entries: dict[str, Any] = metadata.state_dict_metadata
            for name, each in self.entries.items():
                if sum(math.prod(part.sizes) for part in each.chunks) != math.prod(each.size):
                    raise ValueError(f"parts of {name} are missing")

    def forms(self) -> dict[str, tuple[list[int], str]]:
        """Shape and dtype of each tensor."""
        return {
            name: (list(each.size), str(each.properties.dtype).removeprefix("torch."))
            for name, each in self.entries.items()
        }

    def load(self, targets: Mapping[str, Tensor]) -> None:
        """Read tensors in place; of those that are sharded, each process reads its parts only."""
        from torch.distributed.checkpoint.state_dict_loader import load

        values = {name: value.detach() for name, value in targets.items()}
        with self.errors(), failure_of_a_process(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
            load(values, storage_reader=self.reader, no_dist=True)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """A context in which all that a damaged file leads to is a CheckpointError."""
        try:
            yield
        except Exception as error:
            raise CheckpointError(f"{self.folder} cannot be read ({error}); the files are damaged") from None


@contextmanager
def failure_of_a_process() -> Iterator[None]:
    """A context that raises what failed in a process instead of the exception that torch makes of it."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from None
