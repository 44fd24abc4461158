"""Measures a generator: images in batches over all processes, their features, and each metric's values."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from assemblies import Generator
from blocks.common.weight_cache import frozen_weights
from blocks.families import FeatureSet, Metric
from blocks.metric.frechet import gaussian_of
from ganblocks.data.dataset import Images
from ganblocks.errors import DataError, RunError
from ganblocks.metrics.conditions import Conditions
from ganblocks.metrics.generated import generated_batches
from ganblocks.metrics.processes import Processes
from ganblocks.metrics.protocols import Protocol
from ganblocks.metrics.references import Reference, ReferenceSource, check_width
from ganblocks.metrics.specs import extractor_key
from ganblocks.precision import Precision, apply_precision
from ganblocks.sampling.generate import batch_size_of
from registry import recording


class Measurement(NamedTuple):
    """The values of a metric, the main one first, and what they depend on."""

    metric: Metric
    values: dict[str, float]
    record: dict[str, Any]


class Evaluation:
    """Metrics that are ready to measure generators of one architecture, any number of times.

    Args:
        metrics: The metrics, on the processes' device.
        protocol: How images are generated.
        source: Where references come from; they are computed at the first use and kept.
        images: The data set, for classes and captions; None without one.
        processes: The processes that share the work.
        seed: Seed of the first image.
        batch_size: Images per batch; None for a default by resolution.
        precision: Precision of the synthesis.

    Raises:
        DataError: The protocol has fewer images than a metric needs.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        protocol: Protocol,
        source: ReferenceSource,
        images: Images | None,
        processes: Processes,
        *,
        seed: int = 0,
        batch_size: int | None = None,
        precision: Precision = "fp32",
    ) -> None:
        for metric in metrics:
            if protocol.num < metric.min_images:
                raise DataError(
                    f"{metric.kind} needs at least {metric.min_images:,} images, not {protocol.num:,}; raise --num"
                )
        self.metrics, self.protocol, self.source, self.images = metrics, protocol, source, images
        self.processes, self.seed, self.batch_size, self.precision = processes, seed, batch_size, precision
        self.references: dict[str, Reference] = {}
        self.groups: dict[str, Metric] = {}  # metrics of a group measure the same features
        self.group_of: list[str] = []
        for number, metric in enumerate(metrics):
            shared = type(metric).measure is Metric.measure
            self.group_of.append(extractor_key(metric) if shared else f"{metric.kind} {number}")
            self.groups.setdefault(self.group_of[-1], metric)

    @torch.no_grad()
    def prepare(self, generator: Generator) -> None:
        """Compute the references that are missing, and check everything that does not need generated images.

        Raises:
            DataError: As `run`.
        """
        for group, metric in self.groups.items():
            members = [each for each, name in zip(self.metrics, self.group_of, strict=True) if name == group]
            compared = [each for each in members if each.uses_reference]
            if not compared or group in self.references:
                continue
            assert metric.extractor is not None, f"{metric.kind} uses a reference and has no extractor"
            needs_features = any(each.needs_features for each in compared)
            reference = self.source.get(metric.extractor, needs_features=needs_features)
            image = torch.zeros(1, 3, *generator.picture_shape[1:], dtype=torch.uint8, device=self.processes.device)
            width = metric.extractor(image).shape[1]
            check_width(reference.features, metric.extractor, width, str(reference.record["name"]))
            smallest = max(each.min_images for each in compared)
            if 0 <= reference.features.num_images < smallest:
                raise DataError(
                    f"{reference.record['name']} has {reference.features.num_images:,} images; "
                    f"{compared[0].kind} needs at least {smallest:,} real images"
                )
            self.references[group] = reference

    @torch.no_grad()
    @frozen_weights()
    def run(self, generator: Generator, *, progress: bool = False) -> list[Measurement]:
        """Measure a generator in eval mode; an empty list in all processes but the first.

        Args:
            generator: The generator, on the processes' device.
            progress: Whether a progress bar is shown, if standard error is a terminal.

        Raises:
            DataError: The reference does not fit, or a metric needs captions or real images that there are none of.
            RunError: Generated images are not finite.
        """
        begin = time.perf_counter()
        self.prepare(generator)
        features, kernels = self._features(generator, progress=progress)
        if not self.processes.is_main:
            return []
        batch_size = self.batch_size or batch_size_of(generator)
        shared = {
            "seed": self.seed,
            "precision": self.precision,
            "batch_size": batch_size,
            "device": self.processes.device.type,
            "processes": self.processes.world,
            "kernels": kernels,
        }
        measurements = []
        for metric, group in zip(self.metrics, self.group_of, strict=True):
            reference = self.references.get(group) if metric.uses_reference else None
            known = None if reference is None else self._on_device(reference.features)
            values = {name: float(value) for name, value in metric(self._on_device(features[group]), known).items()}
            seconds = round(time.perf_counter() - begin, 3)
            record = self._setting(metric, generator, reference) | shared | {"seconds": seconds}
            measurements.append(Measurement(metric, values, record))
        return measurements

    def _features(self, generator: Generator, *, progress: bool) -> tuple[dict[str, FeatureSet], dict[str, int]]:
        """The features of all groups, and the kernels that generated the first batch."""
        protocol, processes = self.protocol, self.processes
        conditions = Conditions(generator, self.images, protocol.labels, protocol.num, self.seed)
        share = processes.share(protocol.num)
        batch_size = self.batch_size or batch_size_of(generator)
        batches = generated_batches(
            generator, conditions, share, protocol, seed=self.seed, batch_size=batch_size, precision=self.precision
        )
        console = Console(stderr=True)
        shown = progress and processes.is_main and console.is_terminal
        total = -(-len(share) // batch_size)
        parts: dict[str, list[Tensor]] = {group: [] for group in self.groups}
        finite: list[Tensor] = []
        kernels: dict[str, int] = {}
        for batch in track(batches, "measuring", total, console=console, transient=True, disable=not shown):
            # extractors compute in float32; the optimised generator sets its own precision
            with recording() as calls, apply_precision("fp32", processes.device):
                for group, metric in self.groups.items():
                    parts[group].append(metric.measure(batch).cpu())
            finite.append(batch.finite)
            kernels = kernels or {f"{op}: {kernel}": n for (op, kernel), n in sorted(Counter(calls).items())}
        if not_finite := int((~processes.gather(torch.cat(finite), protocol.num)).sum()):
            raise RunError(
                f"{not_finite:,} of {protocol.num:,} generated images have values that are not finite; the generator "
                "has diverged, or --precision has too small a range"
            )
        sets = {}
        for group in self.groups:
            features = processes.gather(torch.cat(parts[group]), protocol.num)
            sets[group] = FeatureSet(len(features), *gaussian_of(features), features)
        return sets, kernels

    def _on_device(self, features: FeatureSet) -> FeatureSet:
        move: Callable[[Tensor], Tensor] = lambda value: value.to(self.processes.device)  # noqa: E731
        return features._replace(features=None if features.features is None else move(features.features))

    def _setting(self, metric: Metric, generator: Generator, reference: Reference | None) -> dict[str, Any]:
        """What has to agree for two values to be comparable."""
        protocol = self.protocol
        return {
            "protocol": protocol.name,
            "changed": protocol.changes(None if metric.extractor is None else metric.extractor.spec, str(metric.kind)),
            "num": protocol.num,
            "quantisation": "none" if metric.exact else protocol.quantisation,
            "noise": "const" if metric.exact else protocol.noise,
            "truncation_psi": protocol.truncation_psi,
            "truncation_cutoff": protocol.truncation_cutoff,
            "labels": protocol.labels if generator.cond_dim else "none",
            "options": metric.record(),
            "extractor": None if metric.extractor is None else metric.extractor.record(),
            "reference": None if reference is None else reference.record,
        }
