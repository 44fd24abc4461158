"""The losses of a run as curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ganblocks.sampling.pictures import Metadata, new_figure, save_figure

PANELS = ("loss", "mean logits", "overfitting, augmentation")
PANEL_OF = {"": 0, "logits": 1, "sign": 2, "augment": 2}  # by the part of a scalar's name before the slash


def save_losses(ticks: Sequence[dict[str, Any]], path: str | Path, metadata: Metadata | None = None) -> None:
    """Plot losses and regularizers, mean logits, and signs of overfitting over the images of the training.

    Args:
        ticks: Records of the log, from `RunFolder.ticks`.
        path: The .png file.
        metadata: Texts for the file's metadata.
    """
    figure = new_figure(8, 8)
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
    save_figure(figure, path, metadata)
