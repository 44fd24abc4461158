"""What a spec comes to, before any memory is spent: for `ganblocks show`, as a table or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assemblies import Step, check, read
from registry import SpecError


def plan_of(source: str | Path, resolution: int | None = None, image_channels: int = 3) -> dict[str, Any]:
    """Steps and totals of the GAN, generator or discriminator in a file or preset.

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
        surveys = check(spec, resolution=side, image_channels=image_channels)
    except SpecError as error:
        raise error.about(str(source)) from None
    totals: dict[str, Any] = {
        "parameters": sum(survey.parameters for survey in surveys.values()),
        "multiply_adds": sum(survey.multiply_adds for survey in surveys.values()),
    }
    for name, survey in surveys.items():
        totals[name] = {"parameters": survey.parameters, "multiply_adds": survey.multiply_adds}
    steps = [_record(name, step) for name, survey in surveys.items() for step in survey.steps]
    return {"spec": str(source), "kind": spec.kind, "family": spec.block.family_name, "steps": steps, "totals": totals}


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
