"""The command report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ganblocks.cli.options import examples
from registry.text import printable


@examples("ganblocks report runs/digits", "ganblocks report runs/digits --out pages/digits.html")
def report(
    run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")],
    out: Annotated[
        Path | None, typer.Option(help="The HTML file.", metavar="PATH", show_default="RUN/report.html")
    ] = None,
) -> None:
    """Write a page about a run: samples through time, curves, metrics, health, settings. It needs no network."""
    from ganblocks.publishing.report import report

    typer.echo(printable(str(report(run, out))))
