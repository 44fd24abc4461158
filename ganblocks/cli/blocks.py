"""The commands that list what is installed (blocks, presets, schema), and those that write a document or a plugin."""

from __future__ import annotations

import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from ganblocks.cli import tables
from ganblocks.cli.options import Json, Settings, SourceArgument, complete_families, complete_kinds, examples
from ganblocks.errors import UsageError


@examples(
    "ganblocks blocks attention",
    "ganblocks blocks hydra-na",
    "ganblocks blocks --search window --paper",
    "ganblocks blocks --family norm --family attention --json",
)
def blocks(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="A kind or a family to show in full.", metavar="KIND_OR_FAMILY", autocompletion=complete_kinds
        ),
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(
            help="List this family only; repeat for more.", metavar="FAMILY", autocompletion=complete_families
        ),
    ] = None,
    search: Annotated[
        str, typer.Option(help="List blocks with this text in kind, description, paper or options.", metavar="TEXT")
    ] = "",
    paper: Annotated[bool, typer.Option("--paper", help="List the papers in place of the summaries.")] = False,
    json: Json = False,
) -> None:
    """List the installed blocks, or show one: its formula, shapes, options, derivatives and kernels."""
    from ganblocks import describe

    if kind is not None and (family or search):
        raise UsageError("give either a kind or a family to show, or --family and --search to list")
    if kind is not None:
        families, entries = describe.named(kind)
        if json:
            tables.print_json(entries or families)
            return
        tables.print_families(families, paper=paper)
        for entry in entries:
            tables.print_block(entry)
        return
    if not family and not search:
        families = describe.families()
    else:
        matching = describe.blocks(family, search)
        families = [
            each | {"kinds": kinds}
            for each in describe.families()
            if (kinds := [block for block in matching if block["family"] == each["family"]])
        ]
        if not families:
            fact = f"no block contains {search!r}" if search else f"the family {family} has no blocks"
            raise UsageError(f"{fact}; `ganblocks blocks` lists all")
    tables.print_json(families) if json else tables.print_families(families, paper=paper)


@examples("ganblocks presets", "ganblocks presets --json")
def presets(json: Json = False) -> None:
    """List the presets: published models and small ones, as whole documents."""
    from ganblocks import describe

    rows = describe.presets()
    tables.print_json(rows) if json else tables.print_presets(rows)


@examples(
    "ganblocks init mini-stylenat > mine.yaml",
    "ganblocks init stylenat-ffhq-256 --set batch_size=32 --set kimg=5000 > mine.yaml",
)
def init(spec: SourceArgument, settings: Settings = None) -> None:
    """Print a preset as a document to edit: options that differ from their defaults, with comments."""
    from ganblocks import describe
    from ganblocks.networks import read_source
    from ganblocks.publishing.commented import commented_yaml

    document = read_source(spec, settings or ())
    summary = next((row["summary"] for row in describe.presets() if row["preset"] == spec), "")
    command = shlex.join(["ganblocks", "init", spec, *(f"--set={each}" for each in settings or ())])
    header = f"""{spec}{": " if summary else ""}{summary}
Written by `{command}`, version {metadata.version("ganblocks")}. Options that are not here have their defaults.
`ganblocks blocks KIND` lists the options of a block, and `ganblocks show FILE` checks a document."""
    sys.stdout.write(commented_yaml(document, header))


@examples("ganblocks schema > ganblocks.schema.json", "ganblocks schema | head")
def schema() -> None:
    """Print the JSON schema of documents over all installed blocks, for editors."""
    from assemblies import document_schema

    tables.print_json(document_schema())


@examples(
    "ganblocks new-plugin spiral-attention --family attention",
    "ganblocks new-plugin fused-attention --family attention --kernel",
)
def new_plugin(
    name: Annotated[
        str, typer.Argument(help="Name of the package: lower-case words joined by hyphens.", metavar="NAME")
    ],
    family: Annotated[
        str,
        typer.Option(
            help="Family of its block; of a GAN or network, a preset.",
            metavar="FAMILY",
            autocompletion=complete_families,
        ),
    ],
    kernel: Annotated[bool, typer.Option("--kernel", help="Add a kernel of the op attention.")] = False,
    out: Annotated[Path, typer.Option(help="Folder in which the package's folder is made.", metavar="PATH")] = Path(),
) -> None:
    """Write a package with a block of your own: registered, documented and tested."""
    from ganblocks.plugin_templates import write_package

    for path in write_package(name, family, out, kernel=kernel):
        typer.echo(path)
    typer.echo(f"next: pip install --editable {out / name} && pytest {out / name}")
