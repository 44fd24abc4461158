"""A run folder: gan.yaml, log.jsonl, samples/, losses.png, model.safetensors and checkpoint.safetensors."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganblocks.errors import RunError
from registry import Spec, spec_file
from registry.spec_file import write_whole

if TYPE_CHECKING:
    from assemblies import Generator


@dataclass(frozen=True)
class Run:
    """A training that ended.

    Args:
        folder: Where everything lies.
        generator: The average of the generator's weights, in eval mode.
        log: What was measured, a record for each tick.
    """

    folder: Path
    generator: Generator = field(repr=False)
    log: list[dict[str, Any]] = field(repr=False)


class RunFolder:
    """The files of a run, each written whole or not at all."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.spec = self.path / "gan.yaml"
        self.log = self.path / "log.jsonl"
        self.samples = self.path / "samples"
        self.losses = self.path / "losses.png"
        self.model = self.path / "model.safetensors"
        self.checkpoint = self.path / "checkpoint.safetensors"

    def open_new(self) -> None:
        """Make the folder ready for a new run.

        Raises:
            RunError: It holds a run already, or cannot be written to.
        """
        if self.holds_run():
            raise RunError(f"{self.path} holds a run already; go on with it by --resume, or choose another --out")
        self._prepare()

    def open_again(self) -> None:
        """Make sure that there is a run to go on with.

        Raises:
            RunError: There is none, or the folder cannot be written to.
        """
        if not self.holds_run():
            what = "has no run in it" if self.path.is_dir() else "is no folder"
            raise RunError(f"{self.path} {what}, so there is nothing to resume; leave --resume away to begin one")
        self._prepare()

    def holds_run(self) -> bool:
        return any(file.exists() for file in (self.spec, self.log, self.model, self.checkpoint))

    def write_spec(self, spec: Spec) -> None:
        spec_file.write(spec, self.spec)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line to the log."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """The log; a last line that was cut short is left out."""
        if not self.log.exists():
            return []
        found = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return found

    def ticks(self) -> list[dict[str, Any]]:
        return [record for record in self.records() if record["event"] == "tick"]

    def forget_after(self, images: int) -> None:
        """Drop from the log what came after a checkpoint: it will happen again."""
        kept = [record for record in self.records() if record.get("images", 0) <= images]
        write_whole(self.log, "".join(json.dumps(record) + "\n" for record in kept).encode())

    def _prepare(self) -> None:
        try:
            self.samples.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path, prefix=".writable")
            os.close(handle)
            os.unlink(name)
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be written to ({error.strerror or error}); choose another --out"
            ) from None
