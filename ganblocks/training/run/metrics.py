"""Metrics during a training: measured at intervals, logged and recorded; the best model is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from assemblies import Generator
from blocks.families import FeatureExtractor
from blocks.weight_norm.converge import converged_weight_norms
from ganblocks.data.dataset import Images
from ganblocks.data.encoded.pictures import pictures_of
from ganblocks.errors import RunError
from ganblocks.metrics.evaluation import Evaluation, Measurement
from ganblocks.metrics.processes import Processes
from ganblocks.metrics.protocols import PROTOCOLS
from ganblocks.metrics.records import FILE, append_records, describe_measurements, drop_snapshots_after
from ganblocks.metrics.references import RealImages, ReferenceSource
from ganblocks.metrics.specs import build_metrics
from ganblocks.metrics.statistics_files import read_statistics
from ganblocks.precision import Precision
from ganblocks.sampling.generate import batch_size_of
from ganblocks.training.logs.progress_log import ProgressLog
from ganblocks.training.run.folder import RunFolder, disk_errors
from ganblocks.training.run.snapshots import crosses
from registry import Spec

PROTOCOL = PROTOCOLS["stylegan-full"]


class TrainingMetrics:
    """The metrics of a document, under the protocol `stylegan-full` but for the number of images.

    Args:
        specs: The metrics; the first one chooses the best model.
        generator: The averaged generator.
        images: The training images.
        resize_filter: Filter by which these were resized.
        processes: The processes of the training.
        precision: Precision of the synthesis.

    Raises:
        DataError: A reference does not fit, or there are too few images.
        SpecError: A metric cannot be built, such as one whose weights are not here.
    """

    def __init__(
        self,
        specs: Sequence[Spec],
        generator: Generator,
        images: Images,
        resize_filter: str,
        processes: Processes,
        precision: Precision,
    ) -> None:
        self.generator, self.processes = generator, processes
        self.evaluations: list[tuple[float, Evaluation]] = []  # with the thousands of images between two
        self.kind = specs[0].kind if specs else ""
        self.lower_is_better = specs[0].block.lower_is_better if specs else True  # type: ignore[attr-defined]
        self.best: float | None = None
        if not specs:
            return
        _, *side = generator.picture_shape
        resolution = (side[0], side[1])
        real = RealImages(pictures_of(images, generator), resolution, resize_filter)
        together: dict[tuple[float, int, str | None], list[Any]] = {}
        built = build_metrics(specs, processes.device, captioned=images.captions is not None)
        for spec, metric in zip(specs, built, strict=True):
            together.setdefault((spec.every_kimg, spec.num, spec.reference), []).append(metric)
        for (every_kimg, num, reference), metrics in together.items():
            file = None if reference is None else read_statistics(Path(reference))
            source = ReferenceSource(processes, real, file, resolution=resolution, batch_size=batch_size_of(generator))
            protocol = PROTOCOL.with_changes(num=num)
            evaluation = Evaluation(metrics, protocol, source, images, processes, precision=precision)
            evaluation.prepare(generator)
            self.evaluations.append((every_kimg, evaluation))

    @property
    def extractor(self) -> FeatureExtractor | None:
        """The feature extractor of the first metric that has one."""
        metrics = (metric for _, evaluation in self.evaluations for metric in evaluation.metrics)
        return next((metric.extractor for metric in metrics if metric.extractor is not None), None)

    def begin(self, folder: RunFolder, first: int) -> None:
        """Take over the best value of a resumed run, and remove the records of what will be measured again."""
        if not self.evaluations:
            return
        drop_snapshots_after(folder.path / FILE, first)
        for record in folder.records():
            if record.get("event") == "metric" and record.get("metric") == self.kind and record.get("best"):
                self.best = record["value"]

    def measure(
        self, before: int, images: int, folder: RunFolder, log: ProgressLog, command: str, save: Callable[[Path], None]
    ) -> None:
        """Measure what became due; all processes call it.

        Args:
            before: Number of images before the last step.
            images: Number of images now.
            folder: Of the run.
            log: Of the run.
            command: For the records.
            save: Writes the model to a file.
        """
        for every_kimg, evaluation in self.evaluations:
            if not crosses(before, images, [every_kimg]):
                continue
            try:
                with converged_weight_norms(self.generator):
                    measurements = evaluation.run(self.generator)
            except RunError as error:  # a generator that diverges; the training itself decides about that
                log.write("metric-failed", str(error), reason=str(error), images=images)
                continue
            for measurement in measurements:
                self._record(measurement, images, folder, log, command, save)

    def _record(
        self,
        measurement: Measurement,
        images: int,
        folder: RunFolder,
        log: ProgressLog,
        command: str,
        save: Callable[[Path], None],
    ) -> None:
        metric, value = str(measurement.metric.kind), next(iter(measurement.values.values()))
        best = metric == self.kind and (
            self.best is None or (value < self.best if self.lower_is_better else value > self.best)
        )
        if best:
            save(folder.best)
            self.best = value
        model = {"file": folder.best.name if best else None, "sha256": None, "images": images, "ema": True}
        (record,) = describe_measurements([measurement], model, command)
        with disk_errors(folder.path / FILE, 2**13):
            append_records(folder.path / FILE, [{**record, "snapshot": True}])
        text = f"{images / 1000:g} kimg: {metric} {value:.4g}{', the best so far' if best else ''}"
        log.write("metric", text, metric=metric, value=value, values=measurement.values, best=best, images=images)
