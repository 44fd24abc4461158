"""The command train."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from ganblocks.cli.options import Settings, examples, takes_options
from ganblocks.training.options import DATA, OUTPUT, TrainOptions
from registry.text import printable


@examples(
    "ganblocks train mini-stylenat --data digits --out digits-run",
    "ganblocks train --resume --out digits-run --kimg 200",
)
@takes_options(TrainOptions)
def train(
    spec: Annotated[
        str | None,
        typer.Argument(help="A YAML or JSON file, or a preset's name.", metavar="SPEC"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Folder, .zip, .tar shards or digits.", metavar="DATA", rich_help_panel=DATA),
    ] = None,
    out: Annotated[Path, typer.Option(help="Run folder.", metavar="FOLDER", rich_help_panel=OUTPUT)] = Path("run"),
    settings: Settings = None,
    *,
    options: TrainOptions,
) -> None:
    """Train a GAN. Ctrl-C saves the state; --resume continues it exactly."""
    from assemblies import GAN, read
    from assemblies.multi_stage import MultiStage
    from ganblocks.errors import Interrupted, UsageError
    from ganblocks.training.distributed import destroy_process_group
    from ganblocks.training.train import train

    if settings and spec is None:
        raise UsageError("--set changes the document of a new run: give its SPEC too; a resumed run keeps its document")
    document = read(spec, GAN, MultiStage, settings=settings) if settings and spec else spec
    command = shlex.join(["ganblocks", *sys.argv[1:]])
    try:
        run = train(document, data, out, options=options.of(options, {"command": command}))
    except Interrupted as error:  # here, because typer does not print its message
        destroy_process_group()
        with suppress(OSError):  # the terminal may be closed
            typer.echo(printable(str(error)), err=True)
        sys.exit(error.exit_code)
    destroy_process_group()
    if not options.quiet:
        folder = shlex.quote(str(run.folder))
        typer.echo(f"done: {run.folder / 'model.safetensors'}; make images with: ganblocks sample {folder}")
