"""Turns checkpoints that other libraries wrote into models of ours, without running anything in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from assemblies.conversion.read import Imported, import_network
from ganblocks.errors import UsageError


def convert(
    source: str | Path,
    target: str | Path,
    *,
    network: str | None = None,
    settings: Sequence[str] = (),
    overwrite: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Write a network of a foreign checkpoint as a .safetensors model; gives back what became of it, as data.

    Args:
        source: The checkpoint.
        target: The file to write, whole or not at all.
        network: G_ema, G or D; by default the averaged generator if there is one.
        settings: What the file does not tell, each as name=value.
        overwrite: Whether a file at `target` may be replaced.
        command: What made the file, kept in it.

    Raises:
        CheckpointError: The source cannot be read, would run code, or is of no form known here.
        SpecError: Its tensors are not those of the network that it describes.
        UsageError: The target is no .safetensors file to be, or exists.
    """
    target = Path(target)
    if target.suffix != ".safetensors":
        raise UsageError(f"{target} would be a model of ours: give it the suffix .safetensors")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists; choose another name, or --overwrite it")
    found = import_network(source, network, parse_settings(settings))
    target.parent.mkdir(parents=True, exist_ok=True)
    found.save(target, {"source": Path(source).name, "form": found.form, "network": found.role, "command": command})
    return report(found, source, target)


def report(found: Imported, source: str | Path, target: str | Path) -> dict[str, Any]:
    return {
        "source": str(source),
        "file": str(target),
        "form": found.form,
        "network": found.role,
        "layout": found.layout,
        "tensors": len(found.state),
        "numbers": sum(value.numel() for value in found.state.values()),
        "value_range": found.value_range,
        "notes": list(found.notes),
    }


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Options from text such as dilations=[[1],[1],[1,2]]; the values are YAML.

    Raises:
        UsageError: A setting is not of that form.
    """
    found = {}
    for setting in settings:
        name, sign, value = setting.partition("=")
        if not sign or not name:
            raise UsageError(f"--set {setting!r} is not of the form NAME=VALUE")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(
                f"--set {setting!r}: {value!r} is no value in YAML, such as 3, true or [[1], [1, 2]]"
            ) from None
    return found


def in_words(told: dict[str, Any]) -> list[str]:
    """What `convert` did, in lines for a reader."""
    lines = [
        f"{told['source']}: {told['form']} ({told['network']} of {told['layout']})",
        f"wrote {told['file']}: {told['tensors']} tensors, {told['numbers']:,} numbers",
    ]
    if told["value_range"]:
        lines[1] += f", images {told['value_range']}"
    return lines + [f"note: {note}" for note in told["notes"]]
