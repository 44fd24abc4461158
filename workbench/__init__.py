"""Runs things: train, sample, show, doctor; one command, `ganblocks`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.data import open_data as open_data
    from workbench.digits import DigitScore as DigitScore
    from workbench.pictures import save_grid as save_grid
    from workbench.run import Run as Run
    from workbench.sample import draw as draw
    from workbench.training import train as train

# imported when first asked for, so that the command line starts without torch
HOMES = {
    "DigitScore": "workbench.digits",
    "Run": "workbench.run",
    "draw": "workbench.sample",
    "open_data": "workbench.data",
    "save_grid": "workbench.pictures",
    "train": "workbench.training",
}

__all__ = ["DigitScore", "Run", "draw", "open_data", "save_grid", "train"]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
