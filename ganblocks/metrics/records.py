"""The records of metrics: one line of JSON each, in the file metrics.jsonl beside the model."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from assemblies.model_file import read_metadata
from blocks.common.pretrained.hashes import sha256_of
from ganblocks.metrics.evaluation import Measurement
from registry.spec_file import write_atomically

FILE = "metrics.jsonl"
PACKAGES = ("ganblocks", "torch", "torch-fidelity", "timm", "open_clip_torch", "numpy", "pillow")


def records_path(model: Path) -> Path:
    """The file of the records of a model file."""
    return model.parent / FILE


def describe_model(path: Path) -> dict[str, Any]:
    """What a record says of a model: file, hash, training images, and whether its weights are averaged.

    Raises:
        CheckpointError: It is not a model file.
    """
    extra = read_metadata(path).get("extra", {})
    averaged = True if "images" in extra else extra["network"] == "G_ema" if "network" in extra else None
    return {"file": path.name, "sha256": sha256_of(path), "images": extra.get("images"), "ema": averaged}


def describe_measurements(
    measurements: Sequence[Measurement], model: Mapping[str, Any], command: str
) -> list[dict[str, Any]]:
    """The records of measurements, as JSON data."""
    versions = {"python": sys.version.split()[0]}
    versions |= {name: metadata.version(name) for name in PACKAGES}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    records = []
    for metric, values, record in measurements:
        head = {"metric": metric.kind, "value": next(iter(values.values())), "values": dict(values)}
        tail = {"ema": model.get("ema"), "date": date, "command": command, "model": dict(model), "versions": versions}
        records.append({**head, **record, **tail})
    return records


def append_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Add records to a file, in one write."""
    text = "".join(json.dumps(record) + "\n" for record in records)
    with path.open("ab+") as file:
        if file.tell() and not _ends_with_newline(file):  # another program's last line was cut short
            text = "\n" + text
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records in a file; damaged lines are ignored, and a missing file has none."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("metric"), str):
            records.append(record)
    return records


def drop_snapshots_after(path: Path, images: int) -> None:
    """Remove the records of a training's snapshots after so many images, since they will be measured again."""
    records = read_records(path)
    kept = [each for each in records if not (each.get("snapshot") and each["model"]["images"] > images)]
    if len(kept) < len(records):
        write_atomically(path, "".join(json.dumps(record) + "\n" for record in kept).encode())


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """The values of a record by dotted name, such as `extractor.sha256`; an empty mapping has none."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    parts = [flatten(each, f"{prefix}.{name}".lstrip(".")) for name, each in value.items()]
    return {name: each for part in parts for name, each in part.items()}


def short(value: Any) -> str:
    """A value of a record as text; of a hash the beginning."""
    if isinstance(value, list):
        return ", ".join(map(short, value))
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"{text[:12]}..." if len(text) == 64 and " " not in text else text


def _ends_with_newline(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")
