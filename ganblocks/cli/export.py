"""The command export."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ganblocks.cli import tables
from ganblocks.cli.options import Json, ModelArgument, examples
from registry.text import printable


@examples(
    "ganblocks export runs/digits exported/digits",
    "ganblocks export stylenat.safetensors exported/stylenat --format aoti",
)
def export(
    model: ModelArgument,
    folder: Annotated[Path, typer.Argument(help="The folder to write.", metavar="FOLDER")],
    format: Annotated[
        Literal["onnx", "torch-export", "aoti"], typer.Option(help="ONNX, torch.export, or machine code (AOTInductor).")
    ] = "onnx",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FOLDER if it exists.")] = False,
    allow_external: Annotated[
        bool, typer.Option("--allow-external", help="Open other files and downloads that the model names.")
    ] = False,
    json: Json = False,
) -> None:
    """Export a generator as programs that run without ganblocks: mapping, synthesis and model.json."""
    from ganblocks.publishing.export import export

    record = export(
        model,
        folder,
        format=format,
        overwrite=overwrite,
        allow_external=allow_external,
        command=shlex.join(["ganblocks", *sys.argv[1:]]),
    )
    if json:
        tables.print_json(record)
        return
    for program in record["programs"].values():
        difference = program["difference"]
        checked = "not checked (pip install onnxruntime)" if difference is None else f"difference {difference:.1e}"
        inputs = ", ".join(f"{key} {shape}" for key, shape in program["inputs"].items())
        typer.echo(printable(f"{folder / program['file']}: {inputs} -> {program['output']}; {checked}"))
