"""The command doctor."""

from __future__ import annotations

from ganblocks.cli import tables
from ganblocks.cli.options import Json, examples


@examples("ganblocks doctor", "ganblocks doctor --json")
def doctor(json: Json = False) -> None:
    """Show whether anything is missing, what is installed, and which kernels can run here."""
    from ganblocks.diagnosis import diagnose

    report = diagnose()
    tables.print_json(report) if json else tables.print_doctor(report)
