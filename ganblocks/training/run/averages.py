"""Post-hoc EMA: averages of any width, reconstructed after a training from snapshots of power-function averages.

EDM2, Karras et al. 2024, https://arxiv.org/abs/2312.02696, section 3.2. A power-function average at time t weights the
generator at time s <= t by p(s) = (gamma + 1) s^gamma / t^(gamma + 1). The sum of snapshots whose weighting is closest
to that of the requested average, in least squares, replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assemblies.model_file import load_model, read_metadata, read_tensors, save_model
from blocks.weight_norm.converge import converged_weight_norms
from ganblocks.errors import RunError, UsageError
from ganblocks.sampling.load import run_of
from ganblocks.training.ema import power_gamma
from ganblocks.training.run.folder import RunFolder
from ganblocks.training.run.snapshots import save_run_model
from ganblocks.training.trainer import Trainer

FOLDER = "averages"  # in the run folder
SUFFIX = ".safetensors"


class AverageSnapshots:
    """The snapshots of a run's power-function averages: `averages/KIMGkimg-SIGMA_REL.safetensors`.

    There is one per interval, which is `snapshot_kimg` and doubles whenever there were more than `snapshots` of them.
    Which are kept follows from the number of images, so that a resumed run keeps the same. The newest is always kept.

    Args:
        run: The run folder.
        trainer: The training.
        run_record: From `describe_run`, for the metadata.
    """

    def __init__(self, run: Path, trainer: Trainer, run_record: Mapping[str, Any]) -> None:
        self.folder, self.trainer, self.run_record = run / FOLDER, trainer, run_record
        self.options = trainer.spec.ema

    def step(self, before: int) -> None:
        """Write snapshots if they are due after a step, which began at `before` images."""
        interval = self.interval(self.trainer.images)
        if self.trainer.images // interval > before // interval:
            self.write()

    def write(self) -> None:
        """Write snapshots, and remove those that are no longer kept."""
        averages, images = self.trainer.power_averages, self.trainer.images
        if not averages:
            return
        self.folder.mkdir(exist_ok=True)
        for sigma_rel, average in averages.items():
            path = self.folder / f"{images / 1000:010.3f}kimg-{sigma_rel:g}{SUFFIX}"
            save_run_model(path, self.trainer, {**self.run_record, "sigma_rel": sigma_rel}, average)
        interval, files = self.interval(images), self.files()
        kept = {count // interval: count for count in sorted(files, reverse=True)}  # the first of each interval
        for count, paths in files.items():
            if count < interval or kept[count // interval] != count != max(files):
                for path in paths:
                    path.unlink(missing_ok=True)

    def interval(self, images: int) -> int:
        """Images between two snapshots, in a training of so many images."""
        interval: int = max(1, round(self.options.snapshot_kimg * 1000))
        while images // interval > self.options.snapshots:
            interval *= 2
        return interval

    def drop_after(self, images: int) -> None:
        """Remove snapshots that are newer than the checkpoint."""
        for count, paths in self.files().items():
            if count > images:
                for path in paths:
                    path.unlink(missing_ok=True)

    def files(self) -> dict[int, list[Path]]:
        """The snapshots by number of images."""
        files: dict[int, list[Path]] = {}
        for path in sorted(self.folder.glob(f"*kimg-*{SUFFIX}")):
            files.setdefault(round(float(path.name.partition("kimg-")[0]) * 1000), []).append(path)
        return files


class Profile(NamedTuple):
    """Weights of a power-function average: gamma, and the time in training steps at which it was taken."""

    gamma: float
    step: float


class Reconstruction(NamedTuple):
    """A reconstructed average.

    Args:
        out: Its model file.
        images: Number of images at which the average ends.
        snapshots: Number of snapshots in the sum.
        error: Norm of the difference between its weighting and the requested one, relative to the latter.
    """

    out: Path
    images: int
    snapshots: int
    error: float


def average(
    run: str | Path,
    sigma_rel: float,
    out: str | Path | None = None,
    *,
    kimg: float | None = None,
    allow_external: bool = False,
) -> Reconstruction:
    """Reconstruct a power-function average of a run's generator and write it as a model file.

    Args:
        run: The run folder; its document has `ema: {sigma_rel: [0.05, 0.1]}`.
        sigma_rel: Width of the average relative to the length of the training, above 0 and below 0.28.
        out: The model file; by default `average-SIGMA_REL.safetensors` in the run folder.
        kimg: Thousands of images at which the average ends; by default those of the newest snapshot.
        allow_external: Whether to open other files and to download weights that the model files name.

    Raises:
        UsageError: `sigma_rel` or `kimg` is out of range.
        RunError: There are no snapshots.
        CheckpointError: A snapshot is damaged.
    """
    if not 0 < sigma_rel < 0.28:
        raise UsageError(f"sigma_rel: {sigma_rel:g} is out of range; it is above 0 and below 0.28")
    run = run_of(run)
    paths = sorted((run / FOLDER).glob(f"*kimg-*{SUFFIX}"))
    if not paths:
        if not RunFolder(run).record.is_file():
            raise RunError(f"{run} is not the folder of a training; give one that `ganblocks train` wrote")
        raise RunError(
            f"{run} has no snapshots of power-function averages; train with --set ema.sigma_rel=[0.05,0.1], which "
            f"keeps them in {FOLDER}/"
        )
    records = [read_metadata(path)["extra"] for path in paths]
    newest = max(record["images"] for record in records)
    batch_size = newest / max(record["step"] for record in records)
    images = newest if kimg is None else kimg * 1000
    if not 0 < images <= newest:
        raise UsageError(f"kimg: {images / 1000:g} is out of range; the newest snapshot is of {newest / 1000:g} kimg")
    profiles = [Profile(power_gamma(record["sigma_rel"]), record["step"]) for record in records]
    weights, error = closest_sum(profiles, Profile(power_gamma(sigma_rel), images / batch_size))
    nearest = min(range(len(paths)), key=lambda index: abs(records[index]["images"] - images))
    generator = load_model(paths[nearest], allow_external=allow_external)
    total: dict[str, Tensor] = {}
    for path, weight in zip(paths, weights, strict=True):
        for name, value in read_tensors(path)[0].items():
            total[name] = total.get(name, 0) + weight * value.double()
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name in total:
                parameter.copy_(total[name])
    out = run / f"average-{sigma_rel:g}{SUFFIX}" if out is None else Path(out)
    extra = records[nearest] | {"images": round(images), "step": round(images / batch_size), "sigma_rel": sigma_rel}
    with converged_weight_norms(generator):
        save_model(out, generator, extra)
    return Reconstruction(out, round(images), len(paths), error)


def closest_sum(profiles: Sequence[Profile], target: Profile) -> tuple[NDArray[np.float64], float]:
    """Factors of the sum of weightings that is closest to `target` in least squares, and its relative error.

    The factors sum to 1, so that a constant weight keeps its value also where the error is large.
    """
    size = len(profiles)
    system = np.ones((size + 1, size + 1))
    system[:size, :size] = gram = np.array([[inner_product(a, b) for b in profiles] for a in profiles])
    system[size, size] = 0.0
    right = np.array([inner_product(each, target) for each in profiles])
    factors = np.linalg.solve(system, np.append(right, 1.0))[:size]
    norm = inner_product(target, target)
    return factors, float(np.sqrt(max(0.0, norm - 2 * factors @ right + factors @ gram @ factors) / norm))


def inner_product(a: Profile, b: Profile) -> float:
    """Integral of the product of two weightings, of which each ends at its own time."""
    first, last = sorted((a, b), key=lambda each: each.step)
    scale = (a.gamma + 1) * (b.gamma + 1) / ((a.gamma + b.gamma + 1) * last.step)
    return float(scale * (first.step / last.step) ** last.gamma)
