"""The losses of a run as curves."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from registry.spec_file import write_atomically

PANELS = ("loss", "mean logits", "overfitting, augmentation")
PANEL_OF = {"": 0, "logits": 1, "sign": 2, "augment": 2}  # by the part of a scalar's name before the slash


def save_losses(ticks: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Plot losses and regularizers, mean logits, and signs of overfitting over the images of the training.

    Args:
        ticks: Records of the log, from `RunFolder.ticks`.
        path: The .png file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, because it takes half a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(PANELS), 1, sharex=True)
    rows = [tick["losses"] | tick.get("signals", {}) for tick in ticks]
    for name in dict.fromkeys(name for row in rows for name in row):
        group = name.rpartition("/")[0]
        if group not in PANEL_OF:
            continue
        points = [(tick["kimg"], row[name]) for tick, row in zip(ticks, rows, strict=True) if name in row]
        label = name.removeprefix("logits/")
        panels[PANEL_OF[group]].plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 30 else "")
    for panel, label in zip(panels, PANELS, strict=True):
        panel.set_ylabel(label)
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend()
    panels[-1].set_xlabel("thousands of images")
    content = BytesIO()
    figure.savefig(content, format="png", dpi=100)
    write_atomically(path, content.getvalue())
