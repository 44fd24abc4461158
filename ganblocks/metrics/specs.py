"""Metrics by name: their specs under a protocol, with options and files of weights from a command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from assemblies.document_paths import with_settings
from blocks.families import Metric
from ganblocks.errors import UsageError
from ganblocks.metrics.protocols import Protocol
from registry import Spec, build_at, catalogue, incompatible
from registry.spec_file import validate
from registry.text import excerpt


def metric_specs(
    kinds: Sequence[str], protocol: Protocol, *, weights: Sequence[str] = (), settings: Sequence[str] = ()
) -> list[Spec]:
    """The specs of metrics.

    Args:
        kinds: Kinds of metrics.
        protocol: Its extractors are taken for metrics that it knows.
        weights: Files of weights, as FILE or KIND=FILE with the kind of an extractor.
        settings: Options, as METRIC.OPTION=VALUE with the value in YAML.

    Raises:
        SpecValidationError: A kind or an option is not valid.
        UsageError: There are no kinds, or no extractor of that kind is used.
    """
    if not kinds:
        known = ", ".join(str(entry.block.kind) for entry in catalogue.entries("metric"))
        raise UsageError(f"--metrics is empty; valid: {known}")
    document = {}
    for kind in kinds:
        extractor = {"extractor": protocol.extractors[kind]} if kind in protocol.extractors else {}
        document[kind] = validate({"kind": kind, **extractor}, Metric, subject=f"--metrics {kind}").to_dict()
    document = with_settings(document, settings)
    for kind, metric in document.items():
        if kind not in kinds or not isinstance(metric, dict):
            raise UsageError(f"--set {excerpt(kind)}: write METRIC.OPTION=VALUE; the metrics are {', '.join(kinds)}")
    _set_weights(document, weights)
    return [validate(each, Metric, subject=f"--metrics {kind}") for kind, each in document.items()]


def build_metrics(specs: Sequence[Spec], device: torch.device, *, captioned: bool) -> list[Metric]:
    """The metrics on a device; those with the same extractor share it.

    Args:
        specs: The metrics.
        device: Their device.
        captioned: Whether the model takes captions.

    Raises:
        IncompatibleError: A metric cannot be built, such as one whose weights are not here, or needs captions.
    """
    for spec in specs:
        if spec.block.needs_captions and not captioned:  # type: ignore[attr-defined]
            raise incompatible(spec.kind, "needs a text-conditional model, and this one takes no captions")
    metrics: list[Metric] = []
    shared: dict[str, Any] = {}
    for spec in specs:
        metric: Metric = build_at((spec.kind,), spec)
        if metric.extractor is None and type(metric).measure is Metric.measure:
            raise incompatible(spec.kind, "has neither an extractor nor a method `measure`; set self.extractor")
        if metric.extractor is not None:
            metric.extractor = shared.setdefault(extractor_key(metric), metric.extractor)
        metrics.append(metric.to(device).eval())
    return metrics


def extractor_key(metric: Metric) -> str:
    """A text that is equal for metrics with the same extractor."""
    assert metric.extractor is not None
    return json.dumps(metric.extractor.spec.to_dict(), sort_keys=True)


def _set_weights(document: dict[str, Any], weights: Sequence[str]) -> None:
    """Set the option `weights` of extractors, or of metrics that have it themselves."""
    targets: dict[str, list[dict[str, Any]]] = {}
    for kind, metric in document.items():
        if isinstance(metric.get("extractor"), str):  # of a setting
            metric["extractor"] = {"kind": metric["extractor"]}
        if isinstance(metric.get("extractor"), dict):
            targets.setdefault(str(metric["extractor"].get("kind")), []).append(metric["extractor"])
        elif "weights" in metric:
            targets.setdefault(kind, []).append(metric)
    for text in weights:
        kind, equals, file = text.partition("=")
        if not equals and len(targets) == 1:
            kind, file = next(iter(targets)), text
        if not file or kind not in targets:
            used = ", ".join(targets) or "none"
            raise UsageError(f"--extractor-weights {text}: write KIND=FILE; these metrics use the extractors: {used}")
        for target in targets[kind]:
            target["weights"] = file
