"""The commands that measure models and compare the numbers: evaluate, compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ganblocks.cli import tables
from ganblocks.cli.options import Json, examples, takes_options
from ganblocks.errors import UsageError
from ganblocks.metrics.options import METRICS, REFERENCE, EvaluationOptions
from registry.text import counted, printable


@examples(
    "ganblocks evaluate runs/mine --metrics fid,kid --num 10000",
    "ganblocks evaluate model.safetensors --reference stats.npz --extractor-weights inception.pth",
    "ganblocks evaluate --data ffhq256.zip --resolution 256 --save-reference stats.npz",
)
@takes_options(EvaluationOptions)
def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(help="A run folder or a model's .safetensors file.", metavar="RUN_OR_MODEL", show_default=False),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(help="Kinds, such as fid,kid,is.", metavar="KINDS", rich_help_panel=METRICS),
    ] = "fid",
    data: Annotated[
        str | None,
        typer.Option(
            help="Real images, as for train.",
            metavar="DATA",
            rich_help_panel=REFERENCE,
            show_default="the run's",
        ),
    ] = None,
    json: Json = False,
    *,
    options: EvaluationOptions,
) -> None:
    """Measure a model: FID and other metrics, with a record of how in metrics.jsonl beside it."""
    from ganblocks.metrics.evaluate import evaluate, write_reference
    from ganblocks.training.distributed import destroy_process_group

    kinds = [kind.strip() for kind in metrics.split(",") if kind.strip()]
    if model is None:
        if data is None:
            raise UsageError("there is nothing to measure: give RUN_OR_MODEL, or --data with --save-reference")
        record = write_reference(data, kinds, options=options)
        destroy_process_group()
        reference, extractor = record["reference"], record["extractor"]["kind"]
        text = f"{options.save_reference}: {counted(reference['count'], 'image')} of {reference['name']}, {extractor}"
        tables.print_json(record) if json else typer.echo(printable(text))
        return
    records = evaluate(model, kinds, data, options=options)
    destroy_process_group()
    if json and records:
        tables.print_json(records)
        return
    for record in records:
        typer.echo(printable(f"{record['metric']}: {values_of(record['values'])} ({describe(record)})"))


@examples("ganblocks compare runs/first runs/second", "ganblocks compare a.safetensors b.safetensors --json")
def compare(
    sources: Annotated[
        list[str],
        typer.Argument(help="Run folders, model files or metrics.jsonl files.", metavar="RUN_OR_MODEL..."),
    ],
    json: Json = False,
) -> None:
    """Compare models by the records of their metrics; says what differs where their protocols do not agree."""
    from ganblocks.metrics.compare import compare
    from ganblocks.metrics.records import short

    comparison = compare(sources)
    if json:
        tables.print_json(comparison)
        return
    tables.print_comparison(comparison)
    for each in comparison:
        setting = [f"{name} {short(value)}" for name, value in each["setting"].items() if value not in (None, [])]
        typer.echo(printable(f"{each['metric']} was measured with {', '.join(setting)}"))
        for text in each["differences"]:
            typer.echo(printable(f"{each['metric']} is not comparable with the others: {text}"))
        for text in each["notes"]:
            typer.echo(printable(f"{each['metric']}: {text}"))


def values_of(values: Mapping[str, float]) -> str:
    """Values by name; a metric with one value has no name beside it."""
    if len(values) == 1:
        return f"{next(iter(values.values())):.6g}"
    return ", ".join(f"{name} {value:.6g}" for name, value in values.items())


def describe(record: Mapping[str, Any]) -> str:
    """The setting of a record in a few words."""
    reference = record["reference"]
    changed = f" with other {', '.join(record['changed'])}" if record["changed"] else ""
    parts = [f"{record['protocol']}{changed}", counted(record["num"], "image")]
    if reference is not None:
        count = reference["count"]
        parts.append(f"against {'' if count is None else f'{count:,} of '}{reference['name']}")
    return ", ".join([*parts, f"{record['seconds']:.0f} s"])
