"""A progress bar on standard error for what may take long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PATIENCE = 1.0  # seconds until the bar appears


@contextmanager
def progress_bar(title: str, *, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error that appears after a second, if that is a terminal.

    Args:
        title: What is done.
        shown: Whether there is one.

    Returns:
        A function that takes how much is done and the total.
    """
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal))
    task = bar.add_task(title, total=None)
    begin = time.monotonic()

    def update(completed: int, total: int) -> None:
        bar.update(task, completed=completed, total=total)
        if not bar.live.is_started and time.monotonic() - begin > PATIENCE:
            bar.start()

    try:
        yield update
    finally:
        bar.stop()
