"""Runs things: train, sample, show, doctor; one command, `ganblocks`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganblocks.data.dataset import open_data as open_data
    from ganblocks.metrics.digit_score import DigitScore as DigitScore
    from ganblocks.sampling.generate import generate as generate
    from ganblocks.sampling.grids import save_grid as save_grid
    from ganblocks.training.run_folder import Run as Run
    from ganblocks.training.train import train as train

# imported when first asked for, so that the command line starts without torch
HOMES = {
    "DigitScore": "ganblocks.metrics.digit_score",
    "Run": "ganblocks.training.run_folder",
    "generate": "ganblocks.sampling.generate",
    "open_data": "ganblocks.data.dataset",
    "save_grid": "ganblocks.sampling.grids",
    "train": "ganblocks.training.train",
}

__all__ = ["DigitScore", "Run", "generate", "open_data", "save_grid", "train"]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
