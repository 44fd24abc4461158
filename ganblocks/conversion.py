"""Converts checkpoints of other libraries to model files, without running anything in them."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assemblies.conversion.read import Imported, import_network
from assemblies.document_paths import with_settings
from ganblocks.errors import UsageError
from registry.text import counted


def convert(
    source: str | Path,
    target: str | Path,
    *,
    network: str | None = None,
    settings: Sequence[str] = (),
    overwrite: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Convert a network of another library's checkpoint to a .safetensors model file.

    Args:
        source: The checkpoint.
        target: The model file; an interrupted write leaves no partial file.
        network: G_ema, G or D; by default the averaged generator if there is one.
        settings: Options that the checkpoint lacks, each as name=value.
        overwrite: Whether to replace an existing file at `target`.
        command: The command line, recorded in the model file.

    Returns:
        A report of the conversion as JSON data.

    Raises:
        CheckpointError: The source cannot be read, would run code, or has an unknown layout.
        SpecError: A setting is not valid, or the tensors do not match the network that the file describes.
        UsageError: The target has another suffix than .safetensors, or exists.
    """
    target = Path(target)
    if target.suffix != ".safetensors":
        raise UsageError(f"{target} is a model file: give it the suffix .safetensors")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists; choose another name, or pass --overwrite")
    options = with_settings({}, settings)
    existing = next(folder for folder in target.absolute().parents if folder.is_dir())
    with tempfile.TemporaryDirectory(dir=existing, prefix=".convert-") as folder:
        temporary = Path(folder) / target.name
        arguments = (source, target, temporary, network, options, command)
        if sys.platform == "linux":
            from ganblocks.worker import run_in_worker

            result = run_in_worker(_convert, arguments, f"{source} cannot be converted")
        else:
            result = _convert(*arguments)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, target)
    return result


def _convert(
    source: str | Path, target: Path, temporary: Path, network: str | None, options: dict[str, Any], command: str
) -> dict[str, Any]:
    imported = import_network(source, network, options)
    extra = {"source": Path(source).name, "form": imported.form, "network": imported.role, "command": command}
    imported.save(temporary, extra)
    return report(imported, source, target)


def report(imported: Imported, source: str | Path, target: str | Path) -> dict[str, Any]:
    """What was converted, as JSON data."""
    return {
        "source": str(source),
        "file": str(target),
        "form": imported.form,
        "network": imported.role,
        "layout": imported.layout,
        "tensors": len(imported.state),
        "numbers": sum(value.numel() for value in imported.state.values()),
        "value_range": imported.value_range,
        "notes": list(imported.notes),
    }


def summary(report: dict[str, Any]) -> list[str]:
    """The report of a conversion as lines of text."""
    lines = [
        f"{report['source']}: {report['form']} ({report['network']} of {report['layout']})",
        f"wrote {report['file']}: {counted(report['tensors'], 'tensor')}, {counted(report['numbers'], 'number')}",
    ]
    if report["value_range"]:
        lines[1] += f", value_range {report['value_range']}"
    return lines + [f"note: {note}" for note in report["notes"]]
