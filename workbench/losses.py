"""The losses of a run as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from registry.documents import write_whole


def save_losses(ticks: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Draw what a log's ticks measured over the images shown: losses with terms above, mean logits below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, because it takes half a second to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    names = dict.fromkeys(name for tick in ticks for name in tick["losses"])
    for name in names:
        axes = below if name.startswith("logits/") else above
        points = [(tick["kimg"], tick["losses"][name]) for tick in ticks if name in tick["losses"]]
        axes.plot(
            *zip(*points, strict=True), label=name.removeprefix("logits/"), marker="." if len(points) < 30 else ""
        )
    above.set_ylabel("loss")
    below.set_ylabel("mean logits")
    below.set_xlabel("thousands of images shown")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    content = BytesIO()
    figure.savefig(content, format="png", dpi=100)
    write_whole(path, content.getvalue())
