"""Evaluates a model: metrics by name under a protocol, with a record beside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assemblies.condition import condition_input
from assemblies.model_file import read_metadata
from ganblocks.data.dataset import Images
from ganblocks.data.sources import open_data
from ganblocks.errors import DataError, UsageError
from ganblocks.metrics.evaluation import Evaluation
from ganblocks.metrics.options import EvaluationOptions
from ganblocks.metrics.processes import join_processes
from ganblocks.metrics.protocols import PROTOCOLS, Protocol
from ganblocks.metrics.records import append_records, describe_measurements, describe_model, records_path
from ganblocks.metrics.references import RealImages, ReferenceSource
from ganblocks.metrics.specs import build_metrics, metric_specs
from ganblocks.metrics.statistics_files import read_statistics, write_statistics
from ganblocks.options import accepts
from ganblocks.sampling.generate import batch_size_of
from ganblocks.sampling.load import MODEL, load


@accepts(EvaluationOptions)
def evaluate(
    model: str | Path,
    metrics: Sequence[str] = ("fid",),
    data: str | Path | Images | None = None,
    *,
    options: EvaluationOptions,
) -> list[dict[str, Any]]:
    """Measure a model, and add the records to metrics.jsonl beside it. All processes call it; the first one writes.

    Args:
        model: A run folder or a model file.
        metrics: Kinds of metrics; `ganblocks blocks metric` lists them.
        data: Real images, as for `open_data`; None for the data that the model's run names, if they are here.

    Returns:
        The records; in all processes but the first, an empty list.

    Raises:
        CheckpointError: There is no model.
        DataError: There are too few images, or the reference does not fit the model, the extractor or the metrics.
        SpecError: A metric or its options are not valid, or an extractor's weights are not here.
        UsageError: An option is not valid.
    """
    protocol = PROTOCOLS[options.protocol].with_changes(
        **{name: getattr(options, name) for name in Protocol.model_fields if name in EvaluationOptions.model_fields}
    )
    specs = metric_specs(metrics, protocol, weights=options.extractor_weights, settings=options.settings)
    file = Path(model) / MODEL if Path(model).is_dir() else Path(model)
    processes = join_processes(options.device)
    generator = load(model, processes.device, allow_external=options.allow_external)
    statistics = None if options.reference is None else read_statistics(options.reference)
    takes_captions = condition_input(generator.spec) == "captions"
    built = build_metrics(specs, processes.device, captioned=takes_captions)
    compares = statistics is None and any(metric.uses_reference for metric in built)
    draws_labels = protocol.labels == "data" and generator.cond_dim > 0
    extra = read_metadata(file).get("extra", {})
    resize_filter = options.resize_filter or extra.get("resize_filter") or "lanczos"
    if data is None and (compares or draws_labels or takes_captions):
        data = _training_data(extra, file)
    images = None
    if data is not None:
        images = open_data(
            data,
            resolution=generator.resolution,
            image_channels=generator.image_channels,
            cond_dim=generator.cond_dim if draws_labels else 0,
            captions=takes_captions,
            resize_filter=resize_filter,
        )
    real = None
    if images is not None and compares:
        real = RealImages(images, generator.resolution, resize_filter, protocol.reference_num, options.seed)
    source = ReferenceSource(
        processes,
        real,
        statistics,
        resolution=generator.resolution,
        batch_size=options.batch_size or batch_size_of(generator),
        use_cache=not options.no_cache,
    )
    evaluation = Evaluation(
        built,
        protocol,
        source,
        images,
        processes,
        seed=options.seed,
        batch_size=options.batch_size,
        precision=options.precision,
    )
    if options.save_reference is not None:
        _save_reference(evaluation, options.save_reference)
    measurements = evaluation.run(generator, progress=True)
    if not processes.is_main:
        return []
    records = describe_measurements(measurements, describe_model(file), options.command)
    append_records(records_path(file), records)
    return records


def _training_data(extra: Mapping[str, Any], file: Path) -> str | None:
    """The data that a run's model was trained on; None if its file names none.

    Raises:
        DataError: They are not here.
    """
    data = extra.get("data")
    if data is not None and data != "digits" and not Path(str(data)).exists():
        raise DataError(
            f"{file} was trained on {data}, which is not here; give --data, or --reference with statistics of the data"
        )
    return data


def _save_reference(evaluation: Evaluation, path: Path) -> None:
    compared = [metric for metric in evaluation.metrics if metric.uses_reference and metric.extractor is not None]
    extractors = {id(metric.extractor): metric.extractor for metric in compared}
    if len(extractors) != 1:
        kinds = ", ".join(str(each.kind) for each in extractors.values() if each is not None) or "none"
        raise UsageError(
            f"--save-reference {path}: a file holds the statistics of one extractor; these metrics compare real images "
            f"in those of: {kinds}. Name metrics of one extractor"
        )
    if path.suffix != ".npz":
        raise UsageError(f"--save-reference {path}: write an .npz file, such as {path.stem}.npz")
    (extractor,) = extractors.values()
    assert extractor is not None
    needs_features = any(metric.needs_features for metric in compared)
    reference = evaluation.source.get(extractor, needs_features=needs_features)
    if evaluation.processes.is_main:
        record = {"reference": reference.record, "extractor": extractor.record()}
        write_statistics(path, reference.features, record)
