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
from registry import recording
from workbench.conditions import Conditions
from workbench.data import Images, Skipped
from workbench.decode import ResizeFilter
from workbench.errors import Diverged, Interrupted
from workbench.interruption import Interruption
from workbench.losses import save_losses
from workbench.pictures import save_grid
from workbench.pixels import from_bytes
from workbench.randomness import seed_step
from workbench.report import Report
from workbench.run import Run, RunFolder
from workbench.sample import draw
from workbench.state import save_state, versions
from workbench.steps import Training
from workbench.stream import Order, RealBatch, batches

MAX_SAMPLES = 64


@dataclass(frozen=True)
class Course:
    """What has to stay the same when a training is resumed, beside its spec; it is written into the checkpoint."""

    seed: int
    flip: bool
    resize_filter: ResizeFilter
    data: str
    num_images: int


@dataclass(frozen=True)
class Habits:
    """How a training is watched and fed, none of which changes what it computes; see `train`."""

    tick: float
    snapshot: float
    workers: int
    quiet: bool
    command: str


class Session:
    """Runs a training.

    Args:
        folder: Where everything goes.
        training: The networks and what goes with them, new or loaded.
        course: What the training is.
        images: The data.
        habits: How it is watched.
    """

    def __init__(self, folder: RunFolder, training: Training, course: Course, images: Images, habits: Habits) -> None:
        self.folder, self.training, self.course, self.images, self.habits = folder, training, course, images, habits
        self.process, self.spec = training.process, training.spec
        self.batch_size: int = self.spec.batch_size
        self.first = training.images
        self.target = math.ceil(self.spec.kimg * 1000 / self.batch_size) * self.batch_size
        self.report = Report(folder, self.target, self.first, quiet=habits.quiet, active=self.process.is_main)
        learning = self.spec.generator_learns.condition
        self.conditions = Conditions(training.generator, images, self.process.device, learning=learning)
        self.skipped: dict[str, str] = {}
        self.saved = (time.perf_counter(), -1)  # when, and at how many images

    def run(self, *, resumed: bool) -> Run:
        """Train until the end.

        Raises:
            Interrupted: A signal came; the state has been saved.
            Diverged: Gradients stopped being finite.
        """
        training = self.training
        with Interruption() as interruption, self.report:
            self.begin(resumed=resumed)
            stream = batches(
                self.images,
                Order(len(self.images), self.course.seed, flip=self.course.flip),
                position=training.images,
                batch_size=self.batch_size,
                share=self.process.share,
                workers=self.habits.workers,
                device=self.process.device,
            )
            try:
                while training.images < self.target and not self.process.any(interruption.signum is not None):
                    self.step(next(stream))
            except Diverged as error:
                self.tick()
                self.report.note("diverged", reason=str(error), images=training.images)
                raise
            self.save(force=True)
        self.process.wait()
        if training.images < self.target:
            self.report.note("interrupted", images=training.images)
            raise Interrupted(self.farewell(), interruption.signum or 2)
        self.report.note("finished", images=training.images)
        return Run(self.folder.path, training.averaged, self.folder.ticks())

    def begin(self, *, resumed: bool) -> None:
        if not self.process.is_main:
            return
        if resumed:
            self.folder.forget_after(self.first)
        self.folder.write_spec(self.spec)
        self.report.note(
            "resumed" if resumed else "started",
            f"training on {self.course.num_images} images of {self.course.data}, {self.first / 1000:g} to "
            f"{self.target / 1000:g} kimg, on {self.process.device}, into {self.folder.path}",
            images=self.first,
            command=self.habits.command,
            versions=versions(),
            device=str(self.process.device),
            processes=self.process.share.world,
            precision=self.process.precision,
            **vars(self.course),
        )
        self.note_skipped(self.images.skipped)
        if not resumed:
            self.draw_samples()

    def step(self, batch: RealBatch) -> None:
        training, before = self.training, self.training.images
        self.note_skipped(batch.skipped)
        seed_step(self.course.seed, training.step, self.process.share.rank)
        real = from_bytes(batch.images, training.generator.value_range)
        c, told = self.conditions.of(batch), self.conditions.read(batch)
        if before == self.first:
            self.step_watched(real, c, told)
        else:
            training.run_step(real, c, told)
        self.report.advance(training.images)
        interval = max(1, round(self.habits.tick * 1000))
        if training.images // interval > before // interval:
            self.tick()
            self.draw_samples()
            self.save()

    def step_watched(self, real: Tensor, c: Tensor | None, told: Tensor | None) -> None:
        """A step of which the log tells which kernels ran how often."""
        with recording() as ran:
            self.training.run_step(real, c, told)
        kernels = {f"{op}: {kernel}": count for (op, kernel), count in sorted(Counter(ran).items())}
        self.report.note("kernels", images=self.first, kernels=kernels)

    def tick(self) -> None:
        """Write down what was measured since the last time."""
        training = self.training
        losses, non_finite = training.meter.read(), training.meter.read_non_finite()
        self.report.tick(
            training.images,
            training.step,
            losses,
            training.read_signals(),
            skipped_steps=sum(non_finite.values()),
            skipped_images=len(self.skipped),
        )
        for where, times in non_finite.items():
            message = f"gradients were not finite {times} x in {where}; those steps were skipped"
            self.report.note("non-finite", message, where=where, times=times, images=training.images)

    def draw_samples(self) -> None:
        """A grid of fixed latents, drawn by the average."""
        if not self.process.is_main:
            return
        generator = self.training.averaged
        count = MAX_SAMPLES if max(generator.resolution) <= 128 else MAX_SAMPLES // 4
        name = f"{self.training.images / 1000:010.3f}kimg.png"
        told = self.images.first_captions(count) if self.conditions.takes_captions else None
        c = None if told is None else generator.condition_of(told)
        save_grid(draw(generator, range(count), c=c), self.folder.samples / name, value_range=generator.value_range)

    def save(self, *, force: bool = False) -> None:
        """Model, checkpoint and the picture of the losses, unless that was a moment ago."""
        training = self.training
        due = force or time.perf_counter() - self.saved[0] >= self.habits.snapshot
        if not self.process.is_main or not due or self.saved[1] == training.images:
            return
        about = {**vars(self.course), "command": self.habits.command}
        save_model(self.folder.model, training.averaged, {"images": training.images, **about})
        save_state(self.folder.checkpoint, training, about)
        save_losses(self.folder.ticks(), self.folder.losses)
        self.saved = (time.perf_counter(), training.images)

    def note_skipped(self, skipped: tuple[Skipped, ...]) -> None:
        for path, reason in skipped:
            if path not in self.skipped:
                self.skipped[path] = reason
                message = f"skipped {path}, which cannot be read: {reason}"
                self.report.note("skipped-image", message, path=path, reason=reason)

    def farewell(self) -> str:
        """How to go on with what was interrupted."""
        shown, target, data = self.training.images / 1000, self.target / 1000, self.course.data
        command = shlex.join(["ganblocks", "train", "--resume", "--out", str(self.folder.path)])
        if data != "digits" and not Path(data).exists():  # images that were handed over in Python
            command = f"train(data=..., out={str(self.folder.path)!r}, resume=True)"
        return f"stopped at {shown:g} of {target:g} kimg; the state is saved. Go on with:\n  {command}"
