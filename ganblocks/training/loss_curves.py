"""The losses of a run as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from registry.spec_file import write_whole

PANELS = ("loss", "mean logits", "overfitting, augmentation")
PANEL_OF = {"": 0, "logits": 1, "sign": 2, "augment": 2}  # by what stands before the slash of a measure's name


def save_losses(ticks: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Draw what a log's ticks measured over the images shown: losses with terms, mean logits, signs of overfitting."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, because it takes half a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(PANELS), 1, sharex=True)
    measured = [tick["losses"] | tick.get("signals", {}) for tick in ticks]
    for name in dict.fromkeys(name for measures in measured for name in measures):
        group = name.rpartition("/")[0]
        if group not in PANEL_OF:
            continue
        points = [(tick["kimg"], each[name]) for tick, each in zip(ticks, measured, strict=True) if name in each]
        label = name.removeprefix("logits/")
        panels[PANEL_OF[group]].plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 30 else "")
    for panel, label in zip(panels, PANELS, strict=True):
        panel.set_ylabel(label)
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend()
    panels[-1].set_xlabel("thousands of images shown")
    content = BytesIO()
    figure.savefig(content, format="png", dpi=100)
    write_whole(path, content.getvalue())
