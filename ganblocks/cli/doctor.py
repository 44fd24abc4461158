"""The command doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from ganblocks.cli import tables
from ganblocks.cli.options import Json, examples


@examples("ganblocks doctor", "ganblocks doctor --refresh --json")
def doctor(
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Probe again, also if nothing has changed since the last report.")
    ] = False,
    json: Json = False,
) -> None:
    """Show whether anything is missing, what is installed, and which kernels can run here."""
    from ganblocks.diagnosis import diagnose

    report = diagnose(refresh=refresh)
    tables.print_json(report) if json else tables.print_doctor(report)
