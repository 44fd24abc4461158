"""The log of a run, and its progress on the screen: a bar in a terminal, otherwise lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ganblocks.training.logs.trackers import Trackers
from ganblocks.training.run.folder import RunFolder
from registry.text import printable


class Screen(Console):
    """Standard error. When nobody reads it any more, it stays quiet and training continues."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def attempt(self, show: Callable[[], object]) -> None:
        """Show something, unless the terminal or pipe was closed."""
        try:
            show()
        except OSError:
            self.quiet = True

    def on_broken_pipe(self) -> None:
        self.quiet = True  # rich would end the process


class ProgressLog:
    """Writes the log of a run, and shows it.

    Args:
        folder: The run folder.
        target: Length of the training in images.
        images: Images in the steps done before.
        quiet: Whether nothing is shown; the log is written all the same.
        active: False in processes that neither write nor show anything.
        trackers: Get the numbers of all records too.
    """

    def __init__(
        self,
        folder: RunFolder,
        target: int,
        images: int,
        *,
        quiet: bool,
        active: bool,
        trackers: Trackers | None = None,
    ) -> None:
        self.folder = folder
        self.trackers = trackers
        self.active = active
        self.screen = Screen(quiet=quiet or not active)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[kimg]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=self.screen,
            disable=not self.screen.is_terminal,
            transient=True,
        )
        self.target = target
        self.task = self.bar.add_task("training", total=target, completed=images, kimg="", numbers="")
        self.alarms: tuple[str, ...] = ()
        self._last_tick = (time.perf_counter(), images)

    def __enter__(self) -> ProgressLog:
        self.screen.attempt(self.bar.start)
        return self

    def __exit__(self, _type: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.screen.attempt(self.bar.stop)
        if self.trackers is not None:
            self.trackers.finish()

    def advance(self, images: int) -> None:
        """Move the bar."""
        self.bar.update(self.task, completed=images, kimg=f"{images / 1000:.1f}/{self.target / 1000:g} kimg")

    def write(self, event: str, message: str = "", **fields: Any) -> None:
        """Add a record to the log, and show the message if there is one."""
        if not self.active:
            return
        self.folder.append({"event": event, **fields})
        if self.trackers is not None:
            self.trackers.record({"event": event, **fields})
        if message:
            self.screen.attempt(lambda: self.screen.print(printable(message), markup=False))

    def tick(
        self,
        images: int,
        step: int,
        losses: Mapping[str, float],
        signals: Mapping[str, float],
        alarms: Mapping[str, str],
        **fields: Any,
    ) -> None:
        """Log the means, the speed and the memory since the last call; an alarm that begins has a record of its own."""
        now = time.perf_counter()
        seconds, num_images = now - self._last_tick[0], images - self._last_tick[1]
        self._last_tick = (now, images)
        speed = num_images / seconds if seconds > 0 else 0.0
        means = "  ".join(f"{name} {value:.3g}" for name, value in {**losses, **signals}.items())
        numbers = f"{speed:.0f} images/s  {means}"
        if alarms:
            numbers = f"COLLAPSE ALARM ({', '.join(alarms)})  {numbers}"
        self.bar.update(self.task, numbers=numbers)
        self.write(
            "tick",
            "" if self.screen.is_terminal else f"{images / 1000:8.2f} kimg  {numbers}",
            kimg=images / 1000,
            images=images,
            step=step,
            seconds=round(seconds, 3),
            images_per_second=round(speed, 2),
            losses=dict(losses),
            signals=dict(signals),
            alarms=list(alarms),
            **fields,
        )
        for name, text in alarms.items():
            if name not in self.alarms:
                self.write("alarm", f"collapse alarm: {text}", name=name, text=text, images=images)
        self.alarms = tuple(alarms)
