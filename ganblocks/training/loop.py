"""The training loop: steps from a start or resume to the end or an interruption, with logs, samples and checkpoints."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from blocks.weight_norm.converge import converge_weight_norms
from ganblocks.data.dataset import Images
from ganblocks.data.encoded.pictures import training_images
from ganblocks.data.loader import RealBatch, batches, sampler_of
from ganblocks.data.skipped import Skipped, summarize_skipped
from ganblocks.errors import DataError, DivergedError, Interrupted
from ganblocks.metrics.processes import Processes
from ganblocks.randomness import seed_step
from ganblocks.sampling.pictures import made_by
from ganblocks.training.conditions import ConditionEncoder
from ganblocks.training.logs.collapse import CollapseAlarm
from ganblocks.training.logs.loss_curves import save_losses
from ganblocks.training.logs.meter import peak_memory
from ganblocks.training.logs.progress_log import ProgressLog
from ganblocks.training.logs.trackers import Trackers
from ganblocks.training.options import TrainOptions
from ganblocks.training.run.averages import AverageSnapshots
from ganblocks.training.run.checkpoint_writer import CheckpointWriter
from ganblocks.training.run.folder import Run, RunFolder, disk_errors
from ganblocks.training.run.identity import IN_DOCUMENT, RunIdentity, describe_run, num_target_images, resume_hint
from ganblocks.training.run.metrics import TrainingMetrics
from ganblocks.training.run.samples import Samples
from ganblocks.training.run.snapshots import Snapshots, crosses, save_run_model
from ganblocks.training.signals import StopSignal
from ganblocks.training.trainer import Trainer
from registry import recording

LAUNCHER_SECONDS = 5.0  # within which a launcher passes on a signal that the processes received already


class TrainingLoop:
    """Runs a training.

    Args:
        folder: The run folder, locked.
        trainer: The training, new or loaded from a checkpoint.
        identity: What fixes its numbers beside the document.
        images: The data set.
        options: Options of the training.
        resume_out: The `--out` that continues the training, for the message of an interruption.
        warnings: Messages to show and log at the start.
    """

    def __init__(
        self,
        folder: RunFolder,
        trainer: Trainer,
        identity: RunIdentity,
        images: Images,
        options: TrainOptions,
        *,
        resume_out: Path,
        warnings: list[str],
    ) -> None:
        self.folder, self.trainer, self.identity, self.images, self.options = folder, trainer, identity, images, options
        self.resume_out, self.warnings = resume_out, warnings
        self.distributed, self.spec = trainer.distributed, trainer.spec
        self.run_record = describe_run(identity, self.spec, options.command)
        self.first, self.target = trainer.images, num_target_images(self.spec)
        is_main = self.distributed.is_main
        self.trackers = Trackers(options.track if is_main else (), folder.path, options.model_dump(mode="json"))
        self.log = ProgressLog(
            folder, self.target, self.first, quiet=options.quiet, active=is_main, trackers=self.trackers
        )
        self.conditions = ConditionEncoder(
            trainer.generator, images, self.distributed.device, trains_condition=self.spec.trainable.condition
        )
        self.metrics = TrainingMetrics(
            self.spec.metrics,
            trainer.generator_ema,
            images,
            self.spec.resize_filter,
            Processes(*self.distributed.shard, self.distributed.device),
            self.distributed.precision,
        )
        self.samples = Samples(
            folder, trainer, images, self.conditions, self.trackers, options.command, self.metrics.extractor
        )
        self.alarm = CollapseAlarm()
        self.snapshots = Snapshots(folder.path, self.spec.keep)
        self.averages = AverageSnapshots(folder.path, trainer, self.run_record)
        self.writer = CheckpointWriter(folder, trainer, self.run_record, background=options.async_save)
        self.skipped: dict[str, str] = {}
        self.last_save = (time.perf_counter(), -1)  # when, and at how many images

    def run(self) -> Run:
        """Train until the end.

        Raises:
            Interrupted: A signal came; the state is saved.
            DataError: No more images could be read; the state is saved.
            DivergedError: Gradients are no longer finite; the last checkpoint is kept.
            RunError: The disk is full; the last checkpoint is kept.
        """
        trainer = self.trainer
        failure: DataError | None = None
        merge_seconds = LAUNCHER_SECONDS if self.distributed.shard.world > 1 else 0.0
        with StopSignal(merge_seconds) as stop, self.log, self.writer:
            self.begin()
            stream = batches(
                self.images,
                sampler_of(self.images, self.identity.seed, flip=self.spec.flip),
                position=trainer.images,
                batch_size=self.spec.batch_size,
                shard=self.distributed.shard,
                workers=self.options.workers,
                device=self.distributed.device,
                stopped=lambda: stop.received,
            )
            with closing(stream):
                while trainer.images < self.target:
                    batch = None
                    try:
                        batch = next(stream, None)
                    except DataError as error:
                        failure = error
                    # all processes stop at the same step
                    if self.distributed.any(stop.received or batch is None) or batch is None:
                        break
                    self.step(batch)
                self.stop_if_diverged()
                if trainer.images >= self.target and not crosses(0, trainer.images, [self.options.log_every_kimg]):
                    with trainer.gathered():  # a training shorter than the interval has one log line
                        self.log_line()
                self.save(force=True)
            if len(self.skipped) > len(self.images.skipped):
                skipped = [Skipped(*item) for item in self.skipped.items()]
                summary = summarize_skipped(skipped, len(self.images) + len(self.images.skipped))
                self.log.write("data", summary, text=summary, images=trainer.images)
        self.distributed.barrier()
        if failure is not None:
            self.log.write("data-error", reason=str(failure), images=trainer.images)
            raise DataError(f"{failure}\n{self.hint}") from failure
        if trainer.images < self.target:
            self.log.write("interrupted", images=trainer.images)
            raise Interrupted(self.hint, stop.signum or 2)
        self.log.write("finished", images=trainer.images)
        if trainer.sharding is not None:
            trainer.sharding.fill()
        converge_weight_norms(trainer.generator_ema)
        return Run(self.folder.path, trainer.generator_ema, self.folder.ticks())

    def begin(self) -> None:
        """Write the record and the document of the run, and the first lines of its log."""
        if not self.distributed.is_main:
            return
        self.folder.write_record(self.run_record)
        if self.options.resume:
            self.folder.drop_after(self.first)
            self.metrics.begin(self.folder, self.first)
            self.averages.drop_after(self.first)
            self.alarm = CollapseAlarm(self.folder.ticks())
        self.folder.write_spec(self.spec)
        identity = self.identity
        self.log.write(
            "resumed" if self.options.resume else "started",
            f"training on {identity.num_images} images of {identity.data}, {self.first / 1000:g} to "
            f"{self.target / 1000:g} kimg, on {self.distributed.device}, into {self.folder.path}",
            images=self.first,
            versions=self.run_record["versions"],
            **self.options.model_dump(mode="json")
            | {name: getattr(self.spec, name) for name in IN_DOCUMENT}
            | identity.model_dump(mode="json"),
        )
        for message in self.warnings:
            self.log.write("warning", message, text=message, images=self.first)
        for sentence in self.images.summary:
            self.log.write("data", sentence, text=sentence, images=self.first)
        self.log_skipped(self.images.skipped)
        if self.first == 0:
            self.samples.draw(compare=False)

    def step(self, batch: RealBatch) -> None:
        """One training step, and what is due after it: log line, samples, checkpoint."""
        trainer, before = self.trainer, self.trainer.images
        self.log_skipped(batch.skipped)
        seed_step(self.identity.seed, trainer.step, self.distributed.shard.rank)
        real, pixels = training_images(batch, self.images, trainer.generator.value_range)
        arguments = (real, self.conditions.encode(batch), self.conditions.tokens(batch), pixels)
        if before == self.first and not self.identity.compile:  # recorded calls would be compiled anew
            self.record_kernels(*arguments)
        else:
            trainer.train_step(*arguments)
        self.log.advance(trainer.images)
        self.stop_if_non_finite()
        images, write = trainer.images, self.save_snapshot
        logged = crosses(before, images, [self.options.log_every_kimg])
        intervals = [self.spec.keep.every_kimg, *(each.every_kimg for each in self.spec.metrics)]
        with trainer.gathered() if logged or crosses(before, images, intervals) else nullcontext():
            if logged:
                self.stop_if_diverged()
                self.log_line()
                self.save()
            if self.distributed.is_main:
                self.snapshots.step(before, images, logged=logged, write=write)
                self.averages.step(before)
            self.metrics.measure(before, images, self.folder, self.log, self.options.command, write)

    def stop_if_diverged(self) -> None:
        if (reason := self.trainer.non_finite.divergence(self.trainer.step, self.trainer.images)) is None:
            return
        self.tick()
        self.log.write("diverged", reason=reason, images=self.trainer.images)
        raise DivergedError(reason)

    def stop_if_non_finite(self) -> None:
        """Save and stop after a skipped optimizer step, by the policy `stop`."""
        if self.options.non_finite != "stop" or not self.trainer.non_finite.read_longest():
            return
        images = self.trainer.images
        self.tick()
        self.save(force=True)
        self.distributed.barrier()  # a launcher ends the other processes when one fails, also while it writes
        reason = (
            f"gradients were not finite in step {self.trainer.step} ({images} images); their optimizer step was skipped"
        )
        self.log.write("diverged", reason=reason, images=images)
        cure = "Or continue with --non-finite skip or retry-in-float32, or start anew with a lower learning rate"
        raise DivergedError(f"{reason}\n{self.hint}\n{cure}")

    def record_kernels(self, *arguments: Tensor | None) -> None:
        """A training step that logs which kernels ran, and how often."""
        with recording() as calls:
            self.trainer.train_step(*arguments)  # type: ignore[arg-type]
        kernels = {f"{op}: {kernel}": count for (op, kernel), count in sorted(Counter(calls).items())}
        self.log.write("kernels", images=self.first, kernels=kernels)

    def log_line(self) -> None:
        """Draw samples, compare them with real images, and log."""
        compare = not self.options.no_alarm
        self.tick(self.samples.draw(compare=compare) if self.distributed.is_main else {})

    def tick(self, compared: Mapping[str, float] = MappingProxyType({})) -> None:
        """Log the means since the last log line, skipped optimizer steps, how samples differ, and alarms."""
        trainer = self.trainer
        means = self.distributed.means(trainer.losses.read())
        rates = {f"rate/{name}": optimizer.rate for name, optimizer in trainer.optimizers.items()}
        signals = {**trainer.read_signals(), **rates, **compared}
        skipped, retried = trainer.non_finite.read(), trainer.non_finite.read_retried()
        self.log.tick(
            trainer.images,
            trainer.step,
            means,
            signals,
            {} if self.options.no_alarm else self.alarm.add(means | signals),
            skipped_steps=sum(skipped.values()),
            retried_steps=sum(retried.values()),
            memory_gb=peak_memory(self.distributed.device),
            skipped_images=len(self.skipped),
        )
        for steps, outcome in ((skipped, "skipped"), (retried, "retried in float32")):
            for where, times in steps.items():
                message = f"gradients were not finite {times} times in {where}; those optimizer steps were {outcome}"
                self.log.write("non-finite", message, where=where, times=times, outcome=outcome, images=trainer.images)

    def save(self, *, force: bool = False) -> None:
        """Write checkpoint, model and loss curves, if `save_every_seconds` have passed since the last time."""
        trainer = self.trainer
        self.writer.wait() if force else self.writer.raise_failure()
        due = force or time.perf_counter() - self.last_save[0] >= self.options.save_every_seconds
        if self.distributed.any(self.distributed.is_main and due and self.last_save[1] != trainer.images):
            self.writer.write(background=not force)
            if self.distributed.is_main:
                made = made_by(trainer.generator_ema, self.options.command)
                with disk_errors(self.folder.losses, 2**17):
                    save_losses(self.folder.ticks(), self.folder.losses, made)
                self.last_save = (time.perf_counter(), trainer.images)
        if force and self.distributed.is_main:
            self.averages.write()

    def save_snapshot(self, path: Path) -> None:
        """Write the averaged generator as a model file."""
        save_run_model(path, self.trainer, self.run_record)

    def log_skipped(self, skipped: tuple[Skipped, ...]) -> None:
        for path, reason in skipped:
            if path not in self.skipped:
                self.skipped[path] = reason
                self.log.write("skipped-image", path=path, reason=reason)

    @property
    def hint(self) -> str:
        """How to continue an interrupted training."""
        progress = f"{self.trainer.images / 1000:g} of {self.target / 1000:g} kimg"
        return resume_hint(progress, self.options, self.resume_out, self.identity)
