"""A run folder: run.json, gan.yaml, log.jsonl, samples/, losses.png, model.safetensors, checkpoint.safetensors."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganblocks.errors import RunError
from ganblocks.training.run.lock import run_lock
from registry import Spec, spec_file
from registry.spec_file import write_atomically

if TYPE_CHECKING:
    from assemblies import Generator

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Run:
    """A finished training.

    Args:
        folder: The run folder.
        generator: The generator with averaged weights, in eval mode.
        log: The records of the log lines: losses, signals, speed.
    """

    folder: Path
    generator: Generator = field(repr=False)
    log: list[dict[str, Any]] = field(repr=False)


class RunFolder:
    """The files of a run; each is written whole or not at all, but for the log, which grows by lines."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.record = self.path / "run.json"
        self.spec = self.path / "gan.yaml"
        self.log = self.path / "log.jsonl"
        self.samples = self.path / "samples"
        self.losses = self.path / "losses.png"
        self.model = self.path / "model.safetensors"
        self.best = self.path / "best.safetensors"
        self.checkpoint = self.path / "checkpoint.safetensors"

    def holds_run(self) -> bool:
        return any(file.exists() for file in (self.record, self.spec, self.log, self.model, self.checkpoint))

    def require_run(self) -> None:
        """Check that there is a run to resume.

        Raises:
            RunError: There is none.
        """
        if not self.holds_run():
            fact = "has no run in it" if self.path.is_dir() else "is not a folder"
            raise RunError(f"{self.path} {fact}, so there is nothing to resume; omit --resume to start a run")

    def require_no_run(self) -> None:
        """Check that a new run overwrites nothing.

        Raises:
            RunError: There is a run already.
        """
        if self.holds_run():
            raise RunError(f"{self.path} holds a run already; continue it with --resume, or choose another --out")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """A context in which this process alone trains in the folder. The folder is created if need be.

        Raises:
            RunError: The folder cannot be written to, or another process trains in it.
        """
        try:
            self.samples.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path, prefix=".writable.")
            os.close(handle)
            os.unlink(name)
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be written to ({error.strerror or error}); choose another --out"
            ) from None
        lock = self.path / "run.lock"
        with ExitStack() as stack:
            with disk_errors(lock, 2**7):
                stack.enter_context(run_lock(lock))
            self._remove_temporary_files()
            yield

    def write_record(self, record: Mapping[str, Any]) -> None:
        content = json.dumps(record, indent=2).encode() + b"\n"
        with disk_errors(self.record, len(content)):
            write_atomically(self.record, content)

    def write_spec(self, spec: Spec) -> None:
        with disk_errors(self.spec, 2**14):
            spec_file.write(spec, self.spec)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line to the log."""
        line = json.dumps(record) + "\n"
        with disk_errors(self.log, len(line)), self.log.open("a", encoding="utf-8") as file:
            file.write(line)

    def records(self) -> list[dict[str, Any]]:
        """The records of the log; damaged lines are ignored."""
        if not self.log.exists():
            return []
        records = []
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and isinstance(record.get("images", 0), int):
                records.append(record)
        return records

    def ticks(self) -> list[dict[str, Any]]:
        """The records of log lines: losses, signals, speed."""
        return [record for record in self.records() if record.get("event") == "tick" and _is_tick(record)]

    def drop_after(self, images: int) -> None:
        """Remove from the log what came after a checkpoint, since it will happen again."""
        kept = [record for record in self.records() if record.get("images", 0) <= images]
        content = "".join(json.dumps(record) + "\n" for record in kept).encode()
        with disk_errors(self.log, len(content)):
            write_atomically(self.log, content)

    @contextmanager
    def replacing_state(self, num_bytes: int) -> Iterator[tuple[Path, Path]]:
        """Paths to write a checkpoint and its model to; at the end both replace the old ones.

        The checkpoint comes first: if the process is killed in between, the model is older than its checkpoint, never
        newer.
        """
        targets = (self.checkpoint, self.model)
        new = tuple(file.with_name(f".{file.name}.new") for file in targets)
        try:
            with disk_errors(self.checkpoint, num_bytes):
                yield new[0], new[1]
                for source, target in zip(new, targets, strict=True):
                    os.replace(source, target)
        finally:
            for file in new:
                file.unlink(missing_ok=True)

    def _remove_temporary_files(self) -> None:
        """Remove what killed processes left while they wrote a file."""
        files = (self.record, self.spec, self.log, self.losses, self.model, self.best, self.checkpoint)
        patterns = [f"{dots}{file.name}.*" for file in files for dots in (".", "..")]
        patterns += [".writable.*", f"{self.samples.name}/.*.png.*"]
        for pattern in patterns:
            for file in self.path.glob(pattern):
                file.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path, num_bytes: int) -> Iterator[None]:
    """A context that turns a full disk into a RunError with the file, the bytes that it needs and the free ones."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        free = shutil.disk_usage(path.parent).free
        raise RunError(
            f"{path}: {error.strerror}: {_size(num_bytes)} needed, {_size(free)} free; the file is as it was. "
            "Free some space, then continue with --resume"
        ) from None


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes} bytes"


def _is_tick(record: Mapping[str, Any]) -> bool:
    """Whether a record has what the loss curves need."""
    measured = [record.get("losses"), record.get("signals", {})]
    numbers = [record.get("kimg"), *(value for each in measured if isinstance(each, dict) for value in each.values())]
    return all(isinstance(each, dict) for each in measured) and all(isinstance(n, int | float) for n in numbers)
