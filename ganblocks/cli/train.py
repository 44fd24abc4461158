"""The commands train and average."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ganblocks.cli import tables
from ganblocks.cli.options import AllowExternal, Json, Settings, complete_presets, examples, takes_options
from ganblocks.errors import Interrupted, UsageError
from ganblocks.training.options import DATA, OUTPUT, TrainOptions
from registry.text import printable


class ResumesIfPossible(TyperCommand):
    """A command whose flag `--resume` may be followed by the word `auto`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for index in range(len(args) - 1, 0, -1):
            if args[index - 1 : index + 1] == ["--resume", "auto"]:
                args[index - 1 : index + 1] = ["--resume-auto"]
        return super().parse_args(ctx, ["--resume-auto" if each == "--resume=auto" else each for each in args])


@examples(
    "ganblocks train mini-stylenat --data digits --out digits-run",
    "ganblocks train --resume --out digits-run --kimg 200",
)
@takes_options(TrainOptions)
def train(
    spec: Annotated[
        str | None,
        typer.Argument(
            help="A YAML or JSON file, or a preset's name.", metavar="SPEC", autocompletion=complete_presets
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Folder, .zip, .tar or digits.", metavar="DATA", rich_help_panel=DATA),
    ] = None,
    out: Annotated[Path, typer.Option(help="Run folder.", metavar="FOLDER", rich_help_panel=OUTPUT)] = Path("run"),
    settings: Settings = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print document, memory, time.", rich_help_panel=OUTPUT)
    ] = False,
    resume_auto: Annotated[bool, typer.Option("--resume-auto", hidden=True)] = False,
    *,
    options: TrainOptions,
) -> None:
    """Train a GAN. Ctrl-C saves the state; --resume continues it exactly."""
    from ganblocks.training.distributed import destroy_process_group
    from ganblocks.training.train import read_document, train

    if settings and spec is None:
        raise UsageError("--set changes the document of a new run: give its SPEC too; a resumed run keeps its document")
    document = read_document(spec, settings) if settings and spec else spec
    if dry_run:
        return print_dry_run(document, options)
    if resume_auto:
        options = options.of(options, {"resume": "auto"})
    first = os.environ.get("RANK", "0") == "0"  # of the processes of torchrun
    try:
        run = train(document, data, out, options=options)
    except Interrupted as error:  # here, because typer does not print its message
        destroy_process_group()
        with suppress(OSError):  # the terminal may be closed
            if first:
                typer.echo(printable(str(error)), err=True)
        sys.exit(error.exit_code)
    destroy_process_group()
    if first and not options.quiet:
        folder = shlex.quote(str(run.folder))
        typer.echo(f"done: {run.folder / 'model.safetensors'}; make images with: ganblocks sample {folder}")


train.cls = ResumesIfPossible  # type: ignore[attr-defined]


def print_dry_run(source: Any, options: TrainOptions) -> None:
    """Print the resolved document and, of each of its trainings, memory and time on the device here."""
    from assemblies import GAN, parse
    from assemblies.multi_stage import MultiStage, trainings_of
    from ganblocks.precision import default_precision
    from ganblocks.sampling.load import inference_device
    from ganblocks.training.estimate.estimate import EFFICIENCY, estimate
    from ganblocks.training.estimate.gpus import matmul_rate
    from ganblocks.training.run.identity import document_overrides
    from ganblocks.training.train import read_document
    from registry.spec_file import to_yaml

    if source is None:
        raise UsageError("--dry-run: there is nothing to train: give a spec")
    document = read_document(source) if isinstance(source, str | Path) else source
    if not issubclass(document.block, MultiStage):
        document = parse(document.to_dict() | document_overrides(options, None), GAN)
    typer.echo(to_yaml(document))  # in full; safe_dump escapes what a terminal should not get
    device = inference_device(options.device)
    rate = EFFICIENCY * matmul_rate(device)
    for name, gan in trainings_of(document).items():
        result = estimate(
            gan,
            processes=int(os.environ.get("WORLD_SIZE", 1)),
            strategy=options.strategy or "replicate",
            precision=options.precision or default_precision(device.type),
            micro_batch=options.micro_batch,
            flops_per_second=rate,
        )
        tables.print_estimate(result.to_dict(), stage=name)


@examples(
    "ganblocks average runs/mine --sigma-rel 0.07",
    "ganblocks average runs/mine --sigma-rel 0.15 --kimg 4000 --out wide.safetensors",
)
def average(
    run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")],
    sigma_rel: Annotated[
        float,
        typer.Option(help="Width relative to the training's length, up to 0.28.", metavar="X", show_default=False),
    ],
    kimg: Annotated[
        float | None, typer.Option(help="Thousands of images at its end.", metavar="X", show_default="newest")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The model file.", metavar="PATH", show_default="RUN/average-SIGMA_REL.safetensors"),
    ] = None,
    allow_external: AllowExternal = False,
    json: Json = False,
) -> None:
    """Average the generator's weights over another width after training (post-hoc EMA)."""
    from ganblocks.training.run.averages import average

    record = average(run, sigma_rel, out, kimg=kimg, allow_external=allow_external)
    if json:
        tables.print_json(record._asdict() | {"out": str(record.out)})
        return
    error = f"; the weighting differs from the requested one by {record.error:.2%} of its norm"
    typer.echo(printable(f"{record.out}: the sum of {record.snapshots} snapshots{error}"))
