"""Evaluates a model: metrics by name under a protocol, with a record beside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assemblies.condition import condition_input
from assemblies.model_file import read_metadata
from blocks.families import Metric
from ganblocks.data.dataset import Images
from ganblocks.data.encoded.pictures import open_pictures
from ganblocks.data.preparation.download import is_url
from ganblocks.data.sources import can_be_opened, open_data
from ganblocks.errors import DataError, UsageError
from ganblocks.metrics.evaluation import Evaluation
from ganblocks.metrics.options import EvaluationOptions
from ganblocks.metrics.processes import join_processes
from ganblocks.metrics.protocols import PROTOCOLS, Protocol
from ganblocks.metrics.records import append_records, describe_measurements, describe_model, records_path
from ganblocks.metrics.references import RealImages, ReferenceSource
from ganblocks.metrics.specs import build_metrics, metric_specs
from ganblocks.metrics.statistics_files import StatisticsFile, read_statistics, write_statistics
from ganblocks.options import accepts
from ganblocks.precision import refuse_fp16_on_cpu
from ganblocks.sampling.generate import batch_size_of, default_batch_size
from ganblocks.sampling.load import MODEL, load, run_of


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
        RunError: The precision needs a GPU.
        DataError: There are too few images, or the reference does not fit the model, the extractor or the metrics.
        SpecError: A metric or its options are not valid, or an extractor's weights are not here.
        UsageError: An option is not valid.
    """
    protocol = _protocol(options)
    specs = metric_specs(metrics, protocol, weights=options.extractor_weights, settings=options.settings)
    model = run_of(model)
    file = model / MODEL if model.is_dir() else model
    if options.resolution is not None:
        raise UsageError("--resolution is for --save-reference without a model; a model's images have its own size")
    processes = join_processes(options.device)
    refuse_fp16_on_cpu(options.precision, on_cpu=processes.device.type == "cpu")
    generator = load(model, processes.device, allow_external=options.allow_external)
    statistics = None if options.reference is None else read_statistics(options.reference)
    if statistics is not None:
        _check_count(statistics, protocol)
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
        images = open_pictures(
            data,
            generator,
            cond_dim=generator.cond_dim if draws_labels else 0,
            captions=takes_captions,
            resize_filter=resize_filter,
        )
    _, height, width = generator.picture_shape
    resolution, real = (height, width), None
    if images is not None and compares:
        real = RealImages(images, resolution, resize_filter, protocol.reference_num, options.seed)
    source = ReferenceSource(
        processes,
        real,
        statistics,
        resolution=resolution,
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
        _save_reference(built, source, options.save_reference)
    measurements = evaluation.run(generator, progress=True)
    if not processes.is_main:
        return []
    records = describe_measurements(measurements, describe_model(file), options.command)
    append_records(records_path(file), records)
    return records


@accepts(EvaluationOptions)
def write_reference(
    data: str | Path | Images, metrics: Sequence[str] = ("fid",), *, options: EvaluationOptions
) -> dict[str, Any]:
    """Write the file `save_reference` with the statistics of real images, without a model. All processes call it.

    Args:
        data: Real images, as for `open_data`.
        metrics: Kinds of metrics of one extractor.

    Returns:
        What the file says of the images and of the extractor.

    Raises:
        DataError: The images cannot be read, or are too few for the protocol.
        SpecError: A metric or its options are not valid, or an extractor's weights are not here.
        UsageError: There is no resolution or no .npz file, or the metrics have several extractors.
    """
    path, resolution, protocol = options.save_reference, options.resolution, _protocol(options)
    if path is None or resolution is None:
        raise UsageError(
            "statistics of images without a model need --save-reference FILE and --resolution, the size of the images "
            "of models that are compared with them, such as --resolution 256"
        )
    specs = metric_specs(metrics, protocol, weights=options.extractor_weights, settings=options.settings)
    processes = join_processes(options.device)
    built = build_metrics(specs, processes.device, captioned=True)
    resize_filter = options.resize_filter or "lanczos"
    images = open_data(data, resolution=resolution, resize_filter=resize_filter)
    real = RealImages(images, resolution, resize_filter, protocol.reference_num, options.seed)
    batch_size = options.batch_size or default_batch_size(*resolution)
    source = ReferenceSource(
        processes, real, None, resolution=resolution, batch_size=batch_size, use_cache=not options.no_cache
    )
    return _save_reference(built, source, path)


def _training_data(extra: Mapping[str, Any], file: Path) -> str | None:
    """The data that a run's model was trained on; None if its file names none.

    Raises:
        DataError: They are not here.
    """
    data = extra.get("data")
    if data is not None and (is_url(str(data)) or not can_be_opened(str(data))):  # a file never starts a download
        raise DataError(
            f"{file} was trained on {data}, which is not here; give --data, or --reference with statistics of the data"
        )
    return data


def _check_count(reference: StatisticsFile, protocol: Protocol) -> None:
    """Refuse statistics of another number of real images than the protocol's, where the file says how many there are.

    Raises:
        DataError: The numbers differ.
    """
    described = reference.describe()
    count, total, wanted = described.get("count"), described.get("of"), protocol.reference_num or described.get("of")
    if count is not None and wanted is not None and count != wanted:
        of = f" of {total:,}" if total not in (None, count) else ""
        raise DataError(
            f"{reference.path} has the statistics of {count:,}{of} images, the protocol {protocol.name} takes "
            f"{wanted:,}; write it again with --save-reference --protocol {protocol.name}, or pass --reference-num "
            f"{count}"
        )


def _protocol(options: EvaluationOptions) -> Protocol:
    changes = {name: getattr(options, name) for name in Protocol.model_fields if name in EvaluationOptions.model_fields}
    return PROTOCOLS[options.protocol].with_changes(**changes)


def _save_reference(metrics: Sequence[Metric], source: ReferenceSource, path: Path) -> dict[str, Any]:
    """Write the real images' features of the metrics' extractor; returns what the file says of them."""
    compared = [metric for metric in metrics if metric.uses_reference and metric.extractor is not None]
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
    reference = source.get(extractor, needs_features=needs_features)
    record = {"reference": reference.record, "extractor": extractor.record()}
    if source.processes.is_main:
        write_statistics(path, reference.features, record)
    return record
