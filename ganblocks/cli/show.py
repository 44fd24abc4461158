"""What a spec comes to, before any memory is spent: for `ganblocks show`, as a table or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from assemblies import Step, check, read
from registry import Spec, SpecError


def describe_spec(source: str | Path, resolution: int | None = None, image_channels: int = 3) -> dict[str, Any]:
    """Steps and totals of the GAN, generator or discriminator in a file or preset, and how a GAN is trained.

    Args:
        source: The file, or the preset's name.
        resolution: Side of the images, where a discriminator stands alone.
        image_channels: Channels of the images, where a discriminator stands alone.

    Raises:
        SpecError: All that is wrong with it.
    """
    spec = read(source)
    side = None if resolution is None else (resolution, resolution)
    try:
        traces = check(spec, resolution=side, image_channels=image_channels)
    except SpecError as error:
        raise error.about(str(source)) from None
    totals: dict[str, Any] = {
        "parameters": sum(trace.parameters for trace in traces.values()),
        "multiply_adds": sum(trace.multiply_adds for trace in traces.values()),
    }
    for name, trace in traces.items():
        totals[name] = {"parameters": trace.parameters, "multiply_adds": trace.multiply_adds}
    steps = [_record(name, step) for name, trace in traces.items() for step in trace.steps]
    plan = {"spec": str(source), "kind": spec.kind, "family": spec.block.family_name, "steps": steps, "totals": totals}
    networks = ("kind", "generator", "discriminator", "plugins")
    trainer = {name: value for name, value in spec if name not in networks}
    return plan | ({"training": {name: brief(value) for name, value in trainer.items()}} if "kimg" in trainer else {})


def brief(value: Any) -> str:
    """An option in few words: of a block its kind and what differs from its defaults, of a group of options all."""
    if isinstance(value, tuple):
        return "; ".join(brief(each) for each in value) or "none"
    if isinstance(value, dict):
        return " ".join(f"{name} {brief(each)}" for name, each in value.items())
    if not isinstance(value, BaseModel):
        return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, Spec):
        said = [f"{name} {brief(each)}" for name, each in value.__repr_args__() if name != "kind"]
        return f"{value.kind} ({', '.join(said)})" if said else value.kind
    return ", ".join(f"{name} {brief(each)}" for name, each in value)


def _record(network: str, step: Step) -> dict[str, Any]:
    return {
        "network": network,
        "path": ".".join(str(part) for part in step.path),
        "kind": step.spec.kind,
        "family": step.spec.block.family_name,
        "features": step.features,
        "image": step.image,
        "logits": step.logits,
        "num_styles": step.num_styles,
        "shares_next_style": step.shares_next_style,
        "parameters": step.parameters,
        "multiply_adds": step.multiply_adds,
    }
