"""Compares the records of several models: values under one protocol side by side, and what differs otherwise."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blocks.common.pretrained.hashes import sha256_of
from ganblocks.errors import UsageError
from ganblocks.metrics.records import FILE, flatten, read_records, records_path, short
from ganblocks.sampling.load import MODEL, run_of

# of a record: all that has to agree
SETTING: tuple[str, ...] = (
    "num",
    "quantisation",
    "noise",
    "truncation_psi",
    "truncation_cutoff",
    "labels",
    "ema",
    "options",
)
SETTING += ("extractor", "reference")
NAMES_ONLY = ("extractor.weights", "extractor.backbone_weights", "reference.name", "reference.split", "reference.of")


def compare(sources: Sequence[str | Path]) -> list[dict[str, Any]]:
    """The newest comparable records of each metric.

    Args:
        sources: Run folders, model files, or files of records.

    Returns:
        Per metric: its name; a row per source, with values, and whether its setting is the common one; the common
        setting by dotted name; the differences from it, as text; notes.

    Raises:
        UsageError: A source has no records.
    """
    records = {str(source): records_of(source) for source in sources}
    metrics = dict.fromkeys(record["metric"] for each in records.values() for record in each)
    return [_compare_metric(metric, records) for metric in metrics]


def records_of(source: str | Path) -> list[dict[str, Any]]:
    """The records of a run folder's training and model, of a model file, or of a file of records.

    Raises:
        UsageError: There are none.
    """
    path = run_of(source)
    if path.suffix == ".jsonl":
        records = read_records(path)
    else:
        file = path / MODEL if path.is_dir() else path
        every = read_records(records_path(file))
        records = [each for each in every if each.get("model", {}).get("file") == file.name]
        if file.is_file() and len({each["model"].get("sha256") for each in records}) > 1:
            sha256 = sha256_of(file)  # the model was replaced: its own records, if there are any
            records = [each for each in records if each["model"].get("sha256") == sha256] or records
        if path.is_dir():
            records = [each for each in every if each.get("snapshot")] + records
    if not records:
        command = f"ganblocks evaluate {shlex.quote(str(source))}"
        raise UsageError(f"{source} has no records of metrics ({FILE}); make them with: {command}")
    return records


def setting_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What has to agree for two records to be comparable, by dotted name."""
    flat = flatten({name: record.get(name) for name in SETTING})
    return {name: value for name, value in flat.items() if name not in NAMES_ONLY}


def _compare_metric(metric: str, records: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    own = {source: [each for each in every if each["metric"] == metric] for source, every in records.items()}
    keys = {source: [json.dumps(setting_of(each), sort_keys=True) for each in every] for source, every in own.items()}
    counts = Counter(key for every in keys.values() for key in dict.fromkeys(reversed(every)))
    common = counts.most_common(1)[0][0]  # the setting of most sources, a newer one if several are
    rows: list[dict[str, Any]] = []
    setting: dict[str, Any] = {}
    differences: list[str] = []
    for source, every in own.items():
        if not every:
            rows.append({"source": source, "values": {}, "comparable": False})
            continue
        matching = [each for each, key in zip(every, keys[source], strict=True) if key == common]
        record = (matching or every)[-1]
        images = record.get("model", {}).get("images")
        row = {"source": source, "values": record.get("values", {}), "comparable": bool(matching), "images": images}
        rows.append(row | {name: record.get(name) for name in ("precision", "protocol", "changed")})
        if matching:
            setting = setting_of(record)
        else:
            differences += [f"{source}: {each}" for each in _differences(setting_of(record), json.loads(common))]
    precisions = dict.fromkeys(str(row["precision"]) for row in rows if row.get("precision"))
    notes = [f"computed in different precisions: {', '.join(precisions)}"] if len(precisions) > 1 else []
    return {
        "metric": metric,
        "rows": rows,
        "setting": setting,
        "differences": differences,
        "notes": notes,
    }


def _differences(setting: Mapping[str, Any], common: Mapping[str, Any]) -> list[str]:
    names = [name for name in {**common, **setting} if setting.get(name) != common.get(name)]
    return [f"{name} is {short(setting.get(name))}, elsewhere {short(common.get(name))}" for name in names]
