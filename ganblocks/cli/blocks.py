"""The commands that list what is installed: blocks, presets, schema."""

from __future__ import annotations

from typing import Annotated

import typer

from ganblocks.cli import tables
from ganblocks.cli.options import Json, examples


@examples("ganblocks blocks attention", "ganblocks blocks hydra-na --json")
def blocks(
    kind: Annotated[
        str | None, typer.Argument(help="A kind or a family to show in full.", metavar="KIND_OR_FAMILY")
    ] = None,
    json: Json = False,
) -> None:
    """List the installed blocks, or show one with its options."""
    from ganblocks import describe

    if kind is None:
        families = describe.families()
        tables.print_json(families) if json else tables.print_families(families)
        return
    families, entries = describe.named(kind)
    if json:
        tables.print_json(entries or families)
        return
    tables.print_families(families)
    for entry in entries:
        tables.print_block(entry)


@examples("ganblocks presets", "ganblocks presets --json")
def presets(json: Json = False) -> None:
    """List the presets: published models and small ones, as whole documents."""
    from ganblocks import describe

    rows = describe.presets()
    tables.print_json(rows) if json else tables.print_presets(rows)


@examples("ganblocks schema > ganblocks.schema.json", "ganblocks schema | head")
def schema() -> None:
    """Print the JSON schema of documents over all installed blocks, for editors."""
    from assemblies import document_schema

    tables.print_json(document_schema())
