"""Experiment trackers: scalars and samples of a run in TensorBoard, Weights & Biases, trackio or MLflow.

Each is reached through accelerate, https://huggingface.co/docs/accelerate/usage_guides/tracking, and works offline.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from PIL import Image

from ganblocks.errors import UsageError
from ganblocks.training.options import TrackerName

PROJECT = "ganblocks"
FOLDER = "trackers"  # in the run folder, for trackers that write files


class Trackers:
    """The trackers of a run. A failing tracker is dropped with a warning; training goes on.

    Args:
        names: Their names.
        folder: The run folder; its name is the run's name.
        config: Options of the run, as plain data.

    Raises:
        UsageError: A tracker's package is not installed.
    """

    def __init__(self, names: tuple[TrackerName, ...], folder: Path, config: Mapping[str, Any]) -> None:
        for name in names:
            if find_spec(name) is None:
                raise UsageError(f"--track {name}: the package {name} is not installed: pip install {name}")
        self.trackers: dict[str, GeneralTracker] = {}
        for name in dict.fromkeys(names):
            self.trackers[name] = _start(name, folder)
        self._each("store_init_configuration", _flat(config))

    def record(self, fields: Mapping[str, Any]) -> None:
        """Track the numbers of a record of the log, at its number of images; records without that are ignored."""
        if fields.get("event") == "metric":
            fields = {"images": fields["images"], "metric": fields["values"]}
        numbers = {
            name: value
            for name, value in _flat(fields).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        images = numbers.pop("images", None)
        if self.trackers and numbers and images is not None:
            self._each("log", numbers, step=images)

    def picture(self, path: Path, images: int) -> None:
        """Track a picture of samples, at a number of images."""
        if not self.trackers:
            return
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        self._each("log_images", {"samples": pixels[None]}, step=images)

    def finish(self) -> None:
        """Write what is buffered."""
        self._each("finish")

    def _each(self, method: str, *arguments: Any, **options: Any) -> None:
        for name, tracker in list(self.trackers.items()):
            if not hasattr(tracker, method):  # MLflow's has no pictures
                continue
            extra = {"dataformats": "NHWC"} if method == "log_images" and name == "tensorboard" else {}
            try:
                getattr(tracker, method)(*arguments, **options, **extra)
            except Exception as error:  # of a service or library outside this project
                del self.trackers[name]
                warnings.warn(
                    f"--track {name}: {type(error).__name__}: {error}; training goes on without", stacklevel=2
                )


def _start(name: str, folder: Path) -> GeneralTracker:
    tracker_class: type[GeneralTracker] = LOGGER_TYPE_TO_CLASS[name]
    run = folder.resolve().name
    if name == "tensorboard":
        tracker = tracker_class(run, logging_dir=folder / FOLDER)
    elif name == "mlflow":
        tracker = tracker_class(experiment_name=PROJECT, logging_dir=str(folder / FOLDER), run_name=run)
    else:  # the run continues under its name when it is resumed
        resume = {"id": run, "resume": "allow", "dir": str(folder)} if name == "wandb" else {"resume": "allow"}
        tracker = tracker_class(PROJECT, name=run, **resume)
    tracker.start()
    return tracker


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with names joined by slashes; lists and None as text."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
