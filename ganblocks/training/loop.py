"""One stretch of training, from a start or a resume to its end or an interruption, and what it leaves in the folder."""

from __future__ import annotations

import math
import shlex
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from assemblies import save_model
from ganblocks.data.dataset import Images, Skipped
from ganblocks.data.decode import ResizeFilter
from ganblocks.data.loader import RealBatch, Sampler, batches
from ganblocks.errors import Diverged, Interrupted
from ganblocks.pixels import from_bytes
from ganblocks.randomness import seed_step
from ganblocks.sampling.generate import generate
from ganblocks.sampling.grids import save_grid
from ganblocks.training.checkpoint import save_checkpoint, versions
from ganblocks.training.conditions import Conditions
from ganblocks.training.loss_curves import save_losses
from ganblocks.training.progress import Report
from ganblocks.training.run_folder import Run, RunFolder
from ganblocks.training.signals import StopSignal
from ganblocks.training.trainer import Trainer
from registry import recording

MAX_SAMPLES = 64


@dataclass(frozen=True)
class RunIdentity:
    """What has to stay the same when a training is resumed, beside its spec; it is written into the checkpoint."""

    seed: int
    flip: bool
    resize_filter: ResizeFilter
    data: str
    num_images: int


@dataclass(frozen=True)
class RuntimeOptions:
    """How a training is watched and fed, none of which changes what it computes; see `train`."""

    tick: float
    snapshot: float
    workers: int
    quiet: bool
    command: str


class TrainingLoop:
    """Runs a training.

    Args:
        folder: Where everything goes.
        training: The networks and what goes with them, new or loaded.
        course: What the training is.
        images: The data.
        habits: How it is watched.
    """

    def __init__(
        self, folder: RunFolder, trainer: Trainer, identity: RunIdentity, images: Images, runtime: RuntimeOptions
    ) -> None:
        self.folder, self.trainer, self.identity, self.images, self.runtime = folder, trainer, identity, images, runtime
        self.dist, self.spec = trainer.dist, trainer.spec
        self.batch_size: int = self.spec.batch_size
        self.first = trainer.images
        self.target = math.ceil(self.spec.kimg * 1000 / self.batch_size) * self.batch_size
        self.report = Report(folder, self.target, self.first, quiet=runtime.quiet, active=self.dist.is_main)
        trainable = self.spec.trainable.condition
        self.conditions = Conditions(trainer.generator, images, self.dist.device, trainable=trainable)
        self.skipped: dict[str, str] = {}
        self.saved = (time.perf_counter(), -1)  # when, and at how many images

    def run(self, *, resumed: bool) -> Run:
        """Train until the end.

        Raises:
            Interrupted: A signal came; the state has been saved.
            Diverged: Gradients stopped being finite.
        """
        trainer = self.trainer
        with StopSignal() as stop, self.report:
            self.begin(resumed=resumed)
            stream = batches(
                self.images,
                Sampler(len(self.images), self.identity.seed, flip=self.identity.flip),
                position=trainer.images,
                batch_size=self.batch_size,
                shard=self.dist.shard,
                workers=self.runtime.workers,
                device=self.dist.device,
            )
            try:
                while trainer.images < self.target and not self.dist.any(stop.signum is not None):
                    self.step(next(stream))
            except Diverged as error:
                self.tick()
                self.report.note("diverged", reason=str(error), images=trainer.images)
                raise
            self.save(force=True)
        self.dist.barrier()
        if trainer.images < self.target:
            self.report.note("interrupted", images=trainer.images)
            raise Interrupted(self.resume_hint(), stop.signum or 2)
        self.report.note("finished", images=trainer.images)
        return Run(self.folder.path, trainer.generator_ema, self.folder.ticks())

    def begin(self, *, resumed: bool) -> None:
        if not self.dist.is_main:
            return
        if resumed:
            self.folder.forget_after(self.first)
        self.folder.write_spec(self.spec)
        self.report.note(
            "resumed" if resumed else "started",
            f"training on {self.identity.num_images} images of {self.identity.data}, {self.first / 1000:g} to "
            f"{self.target / 1000:g} kimg, on {self.dist.device}, into {self.folder.path}",
            images=self.first,
            command=self.runtime.command,
            versions=versions(),
            device=str(self.dist.device),
            processes=self.dist.shard.world,
            precision=self.dist.precision,
            **vars(self.identity),
        )
        self.note_skipped(self.images.skipped)
        if not resumed:
            self.draw_samples()

    def step(self, batch: RealBatch) -> None:
        trainer, before = self.trainer, self.trainer.images
        self.note_skipped(batch.skipped)
        seed_step(self.identity.seed, trainer.step, self.dist.shard.rank)
        real = from_bytes(batch.images, trainer.generator.value_range)
        c, told = self.conditions.of(batch), self.conditions.read(batch)
        if before == self.first:
            self.step_watched(real, c, told)
        else:
            trainer.train_step(real, c, told)
        self.report.advance(trainer.images)
        interval = max(1, round(self.runtime.tick * 1000))
        if trainer.images // interval > before // interval:
            self.tick()
            self.draw_samples()
            self.save()

    def step_watched(self, real: Tensor, c: Tensor | None, told: Tensor | None) -> None:
        """A step of which the log tells which kernels ran how often."""
        with recording() as ran:
            self.trainer.train_step(real, c, told)
        kernels = {f"{op}: {kernel}": count for (op, kernel), count in sorted(Counter(ran).items())}
        self.report.note("kernels", images=self.first, kernels=kernels)

    def tick(self) -> None:
        """Write down what was measured since the last time."""
        trainer = self.trainer
        losses, non_finite = trainer.meter.read(), trainer.meter.read_non_finite()
        self.report.tick(
            trainer.images,
            trainer.step,
            losses,
            trainer.read_signals(),
            skipped_steps=sum(non_finite.values()),
            skipped_images=len(self.skipped),
        )
        for where, times in non_finite.items():
            message = f"gradients were not finite {times} x in {where}; those steps were skipped"
            self.report.note("non-finite", message, where=where, times=times, images=trainer.images)

    def draw_samples(self) -> None:
        """A grid of fixed latents, drawn by the average."""
        if not self.dist.is_main:
            return
        generator = self.trainer.generator_ema
        count = MAX_SAMPLES if max(generator.resolution) <= 128 else MAX_SAMPLES // 4
        name = f"{self.trainer.images / 1000:010.3f}kimg.png"
        told = self.images.first_captions(count) if self.conditions.takes_captions else None
        c = None if told is None else generator.condition_of(told)
        save_grid(generate(generator, range(count), c=c), self.folder.samples / name, value_range=generator.value_range)

    def save(self, *, force: bool = False) -> None:
        """Model, checkpoint and the picture of the losses, unless that was a moment ago."""
        trainer = self.trainer
        due_at = force or time.perf_counter() - self.saved[0] >= self.runtime.snapshot
        if not self.dist.is_main or not due_at or self.saved[1] == trainer.images:
            return
        about = {**vars(self.identity), "command": self.runtime.command}
        save_model(self.folder.model, trainer.generator_ema, {"images": trainer.images, **about})
        save_checkpoint(self.folder.checkpoint, trainer, about)
        save_losses(self.folder.ticks(), self.folder.losses)
        self.saved = (time.perf_counter(), trainer.images)

    def note_skipped(self, skipped: tuple[Skipped, ...]) -> None:
        for path, reason in skipped:
            if path not in self.skipped:
                self.skipped[path] = reason
                message = f"skipped {path}, which cannot be read: {reason}"
                self.report.note("skipped-image", message, path=path, reason=reason)

    def resume_hint(self) -> str:
        """How to go on with what was interrupted."""
        shown, target, data = self.trainer.images / 1000, self.target / 1000, self.identity.data
        command = shlex.join(["ganblocks", "train", "--resume", "--out", str(self.folder.path)])
        if data != "digits" and not Path(data).exists():  # images that were handed over in Python
            command = f"train(data=..., out={str(self.folder.path)!r}, resume=True)"
        return f"stopped at {shown:g} of {target:g} kimg; the state is saved. Go on with:\n  {command}"
