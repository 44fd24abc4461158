"""The command diff."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ganblocks.cli import tables
from ganblocks.cli.options import Json, complete_presets, examples

IGNORED = ("spec", "command", "fingerprint", "versions", "step", "images")  # of a run's record


@examples("ganblocks diff stylenat-ffhq-256 stylenat-church-256", "ganblocks diff runs/first runs/second")
def diff(
    first: Annotated[
        str,
        typer.Argument(
            help="A file, a preset's name, a run folder or a model file.",
            metavar="A",
            autocompletion=complete_presets,
        ),
    ],
    second: Annotated[str, typer.Argument(help="Another one.", metavar="B", autocompletion=complete_presets)],
    json: Json = False,
) -> None:
    """Compare two documents, presets, runs or models: each path with the values of both."""
    from assemblies.document_paths import differences

    rows = list(differences(document_of(first), document_of(second)))
    if json:
        tables.print_json([row._asdict() for row in rows])
    elif not rows:
        typer.echo("no differences")
    else:
        tables.print_differences(rows, (first, second))


def document_of(source: str) -> dict[str, Any]:
    """The document of a file, preset, run or model in plain data; that of a run contains its options as `run`.

    Raises:
        SpecError: There is no such document, or it is not valid.
    """
    from ganblocks.networks import read_source

    document = read_source(source).to_dict()
    record = Path(source) / "run.json"
    if record.is_file():
        options: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        document["run"] = {name: value for name, value in options.items() if name not in IGNORED}
    return document
