"""The command convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ganblocks.cli import tables
from ganblocks.cli.options import Json, command_line, examples
from registry.text import printable


@examples(
    "ganblocks convert ffhq256.pt stylenat.safetensors",
    "ganblocks convert network.pkl model.safetensors --network D --set num_heads=8",
)
def convert(
    source: Annotated[
        Path, typer.Argument(help="A published checkpoint (.pt, .pth, .pkl), such as StyleNAT's.", metavar="SOURCE")
    ],
    target: Annotated[Path, typer.Argument(help="The .safetensors model file to write.", metavar="TARGET")],
    network: Annotated[
        Literal["G_ema", "G", "D"] | None,
        typer.Option(help="Which network.", show_default="G_ema if there is one, else G"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option the file lacks; repeat for several.", metavar="NAME=VALUE"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace TARGET if it exists.")] = False,
    json: Json = False,
) -> None:
    """Convert a published checkpoint to a model file. Code in the checkpoint is never run."""
    from ganblocks.conversion import convert, summary

    record = convert(
        source,
        target,
        network=network,
        settings=settings or (),
        overwrite=overwrite,
        command=command_line(),
    )
    tables.print_json(record) if json else typer.echo(printable("\n".join(summary(record))))
