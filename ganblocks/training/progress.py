"""What a training tells while it runs: a progress bar or lines on the screen, and the records of the log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ganblocks.training.run_folder import RunFolder


class Report:
    """Writes the log of a run and shows it.

    Args:
        folder: Where the log is.
        target: Images to show in all.
        images: Images shown before.
        quiet: Show nothing; the log is written all the same.
        active: False in processes that leave the writing to another.
    """

    def __init__(self, folder: RunFolder, target: int, images: int, *, quiet: bool, active: bool) -> None:
        self.folder = folder
        self.active = active
        self.console = Console(stderr=True, quiet=quiet or not active, highlight=False, soft_wrap=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[kimg]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self.target = target
        self.task = self.bar.add_task("training", total=target, completed=images, kimg="", numbers="")
        self._mark = (time.perf_counter(), images)

    def __enter__(self) -> Report:
        self.bar.start()
        return self

    def __exit__(self, _type: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.bar.stop()

    def advance(self, images: int) -> None:
        self.bar.update(self.task, completed=images, kimg=f"{images / 1000:.1f}/{self.target / 1000:g} kimg")

    def note(self, event: str, message: str = "", **record: Any) -> None:
        """Something that happened: a record in the log, and a line on the screen if there is a message."""
        if not self.active:
            return
        self.folder.append({"event": event, **record})
        if message:
            self.console.print(message, markup=False)

    def tick(
        self, images: int, step: int, losses: Mapping[str, float], signals: Mapping[str, float], **record: Any
    ) -> None:
        """What was measured since the last tick."""
        now = time.perf_counter()
        seconds, shown = now - self._mark[0], images - self._mark[1]
        self._mark = (now, images)
        speed = shown / seconds if seconds > 0 else 0.0
        numbers = f"{speed:.0f} images/s  " + "  ".join(
            f"{name} {value:.3g}" for name, value in {**losses, **signals}.items()
        )
        line = f"{images / 1000:8.2f} kimg  {numbers}"
        self.bar.update(self.task, numbers=numbers)
        self.note(
            "tick",
            "" if self.console.is_terminal else line,
            kimg=images / 1000,
            images=images,
            step=step,
            seconds=round(seconds, 3),
            images_per_second=round(speed, 2),
            losses=dict(losses),
            signals=dict(signals),
            **record,
        )
