"""Snapshots of the averaged generator during a training: the last ones, and one at every so many images for good."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from assemblies import Generator, save_model
from assemblies.training_options import Keep
from blocks.weight_norm.converge import converged_weight_norms
from ganblocks.training.run.folder import disk_errors
from ganblocks.training.trainer import Trainer

FOLDER = "snapshots"  # in the run folder
SUFFIX = "kimg.safetensors"


def crosses(before: int, images: int, intervals_kimg: Iterable[float | None]) -> bool:
    """Whether a multiple of one of the intervals, in thousands of images, lies between two numbers of images."""
    intervals = [max(1, round(each * 1000)) for each in intervals_kimg if each is not None]
    return any(images // each > before // each for each in intervals)


class Snapshots:
    """The snapshots of a run. Which of them may go follows from their names, so that a resumed run goes on alike.

    Args:
        run: The run folder.
        keep: Which are kept.
    """

    def __init__(self, run: Path, keep: Keep) -> None:
        self.folder, self.keep = run / FOLDER, keep

    def step(self, before: int, images: int, *, logged: bool, write: Callable[[Path], None]) -> None:
        """Write the snapshots that are due after a step, and remove those that are no longer kept.

        Args:
            before: Number of images before the step.
            images: Number of images after it.
            logged: Whether there was a log line.
            write: Writes a model file.
        """
        if not (logged and self.keep.last) and self._period(before) == self._period(images):
            return
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"{images / 1000:010.3f}{SUFFIX}"
        write(path)
        for old in self.removable():
            old.unlink(missing_ok=True)

    def removable(self) -> list[Path]:
        """Snapshots that are neither among the last ones nor the first of a period of `every_kimg`."""
        files = sorted(self.folder.glob(f"*{SUFFIX}"))
        periods = [self._period(round(float(file.name.removesuffix(SUFFIX)) * 1000)) for file in files]
        first = [period > 0 and period not in periods[:index] for index, period in enumerate(periods)]
        recent = len(files) - self.keep.last
        return [file for index, file in enumerate(files) if index < recent and not first[index]]

    def _period(self, images: int) -> int:
        every = self.keep.every_kimg
        return 0 if every is None else int(images // (every * 1000))


def save_run_model(
    path: Path, trainer: Trainer, run_record: Mapping[str, Any], average: Generator | None = None
) -> None:
    """Write an averaged generator as a model file whose metadata says of which step it is.

    Args:
        path: The file.
        trainer: The training.
        run_record: From `describe_run`.
        average: The generator; by default the one with the exponential moving average.
    """
    average = trainer.generator_ema if average is None else average
    average.name_classes(run_record.get("class_names", ()))
    num_bytes = sum(each.nbytes for each in average.state_dict().values())
    with disk_errors(path, num_bytes), converged_weight_norms(average):
        save_model(path, average, model_extra(trainer, run_record))


def model_extra(trainer: Trainer, run_record: Mapping[str, Any]) -> dict[str, Any]:
    """What the metadata of a run's model file says about the run."""
    extra = {name: value for name, value in run_record.items() if name not in ("spec", "plugins", "versions")}
    return {"images": trainer.images, "step": trainer.step, **extra}
