"""The command show: the steps of a spec with their shapes and sizes, computed without allocating the networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel

from ganblocks.cli import tables
from ganblocks.cli.options import Json, Settings, SpecArgument, examples
from registry import Spec, SpecError

if TYPE_CHECKING:
    from assemblies import Step


@examples(
    "ganblocks show stylenat-ffhq-256",
    "ganblocks show mini-stylenat --set generator.z_dim=128 --set batch_size=32 --json",
)
def show(
    spec: SpecArgument,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Side of the images of a single discriminator.", metavar="N")
    ] = None,
    channels: Annotated[
        int, typer.Option(min=1, help="Channels of the images of a single discriminator.", metavar="N")
    ] = 3,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Check a spec and show its steps: shapes, style vectors, parameters, multiply-adds."""
    summary = describe_spec(spec, resolution, channels, settings or ())
    tables.print_json(summary) if json else tables.print_steps(summary)


def describe_spec(
    source: str | Path, resolution: int | None = None, image_channels: int = 3, settings: Sequence[str] = ()
) -> dict[str, Any]:
    """Steps, totals and training options of a GAN, generator or discriminator.

    Args:
        source: A file or a preset's name.
        resolution: Side of the images of a single discriminator, in pixels.
        image_channels: Channels of the images of a single discriminator.
        settings: Changes of the document, each `path=value`.

    Raises:
        SpecError: The spec is not valid; all problems are listed.
    """
    from assemblies import check, read

    spec = read(source, settings=settings)
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
    summary = {
        "spec": str(source),
        "kind": spec.kind,
        "family": spec.block.family_name,
        "steps": steps,
        "totals": totals,
    }
    networks = ("kind", "generator", "discriminator", "plugins")
    training = {name: brief(value) for name, value in spec if name not in networks}
    return summary | ({"training": training} if "kimg" in training else {})


def brief(value: Any) -> str:
    """An option as a few words: a block's kind with the options that differ from their defaults, a group's options."""
    if isinstance(value, tuple):
        return "; ".join(brief(each) for each in value) or "none"
    if isinstance(value, dict):
        return " ".join(f"{name} {brief(each)}" for name, each in value.items())
    if not isinstance(value, BaseModel):
        return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, Spec):
        changed = [f"{name} {brief(each)}" for name, each in value.__repr_args__() if name != "kind"]
        return f"{value.kind} ({', '.join(changed)})" if changed else value.kind
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
