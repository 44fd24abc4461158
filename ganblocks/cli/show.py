"""The commands show and estimate: sizes of a spec's networks and what their training needs; none is allocated."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel

from ganblocks.cli import tables
from ganblocks.cli.options import AllowExternal, Json, Settings, SourceArgument, complete_presets, examples
from ganblocks.errors import UsageError
from ganblocks.json_cache import cached
from ganblocks.networks import MODEL_SUFFIX, document_of_run
from ganblocks.precision import Precision
from ganblocks.training.options import Strategy
from registry import Spec, SpecError
from registry.text import printable

if TYPE_CHECKING:
    from assemblies import Step
    from ganblocks.training.estimate.estimate import Estimate

SUMMARIES = 64  # in the cache


@examples(
    "ganblocks show stylenat-ffhq-256",
    "ganblocks show mini-stylenat --set generator.z_dim=128 --set batch_size=32 --json",
)
def show(
    spec: SourceArgument,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Side of the images of a single discriminator.", metavar="N")
    ] = None,
    channels: Annotated[
        int, typer.Option(min=1, help="Channels of the images of a single discriminator.", metavar="N")
    ] = 3,
    settings: Settings = None,
    allow_external: AllowExternal = False,
    json: Json = False,
) -> None:
    """Check a spec and show its steps: shapes, style vectors, parameters, multiply-adds."""
    from registry.external_files import external_files

    def describe() -> dict[str, Any]:
        with external_files(allowed=allow_external or not spec.endswith(MODEL_SUFFIX)):
            return describe_spec(spec, resolution, channels, settings or ())

    state = [spec, files_of(spec), resolution, channels, settings, allow_external]
    place = hashlib.sha256(repr(state[:2]).encode()).digest()[0] % SUMMARIES  # another spec in this place replaces it
    summary = cached(f"show-{place}", describe, state=state)
    tables.print_json(summary) if json else tables.print_steps(summary)


@examples(
    "ganblocks estimate stylenat-ffhq-256 --processes 8 --gpu h100 --precision bf16",
    "ganblocks estimate mine.yaml --processes 64 --strategy fsdp --set batch_size=2048 --gpu h100 --json",
)
def estimate(
    spec: Annotated[
        str,
        typer.Argument(
            help="A YAML or JSON file, a preset's name or a run folder.",
            metavar="SPEC",
            autocompletion=complete_presets,
        ),
    ],
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images in a step.", metavar="N", show_default="document")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes, with a GPU each.", metavar="N")] = 1,
    strategy: Annotated[
        Strategy, typer.Option(help="replicate, or fsdp: shard networks.", metavar="STRATEGY")
    ] = "replicate",
    precision: Annotated[Precision, typer.Option(help="fp32, tf32, bf16 or fp16.", metavar="PRECISION")] = "tf32",
    micro_batch: Annotated[
        int | None, typer.Option(min=1, help="Images of a process per pass.", metavar="N", show_default="all")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(help="Such as a100, h100 or rtx4090; 30 % of its peak is assumed.", metavar="NAME")
    ] = None,
    flops: Annotated[float | None, typer.Option(min=1.0, help="Measured FLOP/s of a process.", metavar="X")] = None,
    like: Annotated[Path | None, typer.Option(help="A run whose measured FLOP/s are taken.", metavar="RUN")] = None,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Estimate memory, communication and time of a training, what to change where it does not fit, and the command."""
    from assemblies import GAN, read
    from assemblies.multi_stage import MultiStage, trainings_of
    from ganblocks.training.estimate.estimate import estimate, measured_rate

    if flops is not None and like is not None:
        raise UsageError("--flops and --like both say how fast a process is; pass one of them")
    spec = str(document_of_run(spec) or spec)
    document = read(spec, GAN, MultiStage, settings=settings or ())
    rate = flops if like is None else measured_rate(like)
    results = {}
    for name, gan in trainings_of(document).items():
        results[name] = estimate(
            gan if batch_size is None else type(gan).model_validate(gan.to_dict() | {"batch_size": batch_size}),
            processes=processes,
            strategy=strategy,
            precision=precision,
            micro_batch=micro_batch,
            gpu=gpu,
            flops_per_second=rate,
        )
        if not json:
            tables.print_estimate(results[name].to_dict(), stage=name)
    command = None
    if all(each.fits or each.changes for each in results.values()):
        command = train_command(spec, settings or (), batch_size, results)
    if json:
        records = {name: each.to_dict() for name, each in results.items()}
        tables.print_json((records[""] if "" in records else {"stages": records}) | {"command": command})
    elif command is not None:
        typer.echo(f"train with:\n  {printable(command)}")


def train_command(
    source: str, settings: Sequence[str], batch_size: int | None, estimates: Mapping[str, Estimate]
) -> str:
    """The command that trains as estimated, with the first change of each stage that does not fit."""
    first = next(iter(estimates.values()))
    options: dict[str, str | int] = {"precision": first.precision}
    options |= {"strategy": first.strategy} if first.strategy != "replicate" else {}
    options |= {"micro_batch": first.micro_batch} if first.micro_batch is not None else {}
    values = list(settings)
    for index, (stage, estimate) in enumerate(estimates.items()):
        place = f"stages.{index}.gan." if stage else ""
        values += [] if batch_size is None else [f"{place}batch_size={batch_size}"]
        for change in estimate.changes[:1]:
            values += [place + each for each in change.settings]
            sizes = [int(each["micro_batch"]) for each in (options, change.options) if "micro_batch" in each]
            options |= change.options | ({"micro_batch": min(sizes)} if sizes else {})
    parts = ["ganblocks", "train", source, *(part for value in values for part in ("--set", value))]
    parts += [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = shlex.join([*parts, "--data", "DATA", "--out", "RUN"])
    return command if first.processes == 1 else f"{command}  # in each of {first.processes} processes"


def files_of(source: str) -> list[tuple[str, int, int]]:
    """The files that a source is read from, with sizes and times; none if it is a preset."""
    path = document_of_run(source) or Path(source)
    return [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns)] if path.is_file() else []


def describe_spec(
    source: str | Path, resolution: int | None = None, image_channels: int = 3, settings: Sequence[str] = ()
) -> dict[str, Any]:
    """Steps, totals and training options of a GAN, generator or discriminator.

    Args:
        source: A file, a preset's name, a run folder or a model file.
        resolution: Side of the images of a single discriminator, in pixels; None for that of its model file.
        image_channels: With a resolution, channels of the images of a single discriminator.
        settings: Changes of the document, each `path=value`.

    Raises:
        SpecError: The spec is not valid; all problems are listed.
    """
    from assemblies import check
    from ganblocks.networks import read_with_context

    spec, context = read_with_context(source, settings)
    if resolution is not None:
        context = {"resolution": (resolution, resolution), "image_channels": image_channels}
    try:
        traces = check(spec, **context)
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
    if curves := schedule_curves(spec):
        summary["schedules"] = curves
    training = {name: brief(value) for name, value in spec if name not in networks}
    return summary | ({"training": training} if "kimg" in training else {})


def schedule_curves(spec: Spec) -> dict[str, list[float]]:
    """Values of the schedules of a GAN, evenly spaced from the first to the last image, by their paths."""
    from assemblies.documents import schedules_in

    if not hasattr(spec, "kimg"):
        return {}
    points = 24
    images = [round(spec.kimg * 1000 * index / (points - 1)) for index in range(points)]
    return {name: [schedule.at(each) for each in images] for name, schedule in schedules_in(spec).items()}


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
        "options": ", ".join(f"{name} {brief(value)}" for name, value in step.spec.__repr_args__() if name != "kind"),
        "features": step.features,
        "image": step.image,
        "logits": step.logits,
        "num_styles": step.num_styles,
        "shares_next_style": step.shares_next_style,
        "parameters": step.parameters,
        "multiply_adds": step.multiply_adds,
    }
