"""The log of a run, and its progress on the screen: a bar in a terminal, otherwise lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

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


SHORT = {"generator": "G", "discriminator": "D", "logits/real": "real"}
"""The means that have a place in the bar, and their names there."""
TABLE_WIDTH, TABLE_HEIGHT = 120, 20  # columns and lines of a terminal that has room for all means


class Speed(ProgressColumn):
    """Images per second, of the last seconds."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.3g} images/s", "dim")


class Bar(Progress):
    """One line: bar, images, speed, time left and some means, cut at the end; all means below it where there is room.

    Args:
        screen: The terminal; where it is none, nothing is shown.
    """

    def __init__(self, screen: Screen) -> None:
        self.means: dict[str, float] = {}
        super().__init__(
            BarColumn(bar_width=12),
            TextColumn("{task.fields[kimg]}"),
            Speed(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=screen,
            disable=not screen.is_terminal,
            transient=True,
            expand=True,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.means and self.console.width >= TABLE_WIDTH and self.console.height >= TABLE_HEIGHT:
            yield Columns([Text(_number(name, value), "dim") for name, value in self.means.items()], padding=(0, 3))


def _number(name: str, value: float) -> str:
    return f"{name} {value:.3g}"


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
        self.bar = Bar(self.screen)
        self.target = target
        self.task = self.bar.add_task("", total=target, completed=images, kimg="", numbers="")
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
        means = {**losses, **signals}
        alarm = f"COLLAPSE ALARM ({', '.join(alarms)})  " if alarms else ""
        self.bar.means = means
        short = "  ".join(_number(label, means[name]) for name, label in SHORT.items() if name in means)
        self.bar.update(self.task, numbers=alarm + short)
        numbers = "  ".join([f"{speed:.0f} images/s", *(_number(*each) for each in means.items())])
        self.write(
            "tick",
            "" if self.screen.is_terminal else f"{images / 1000:8.2f} kimg  {alarm}{numbers}",
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
