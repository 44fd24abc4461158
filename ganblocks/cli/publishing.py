"""The commands on finished runs: report, export, demo, push and pull."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from ganblocks.cli import tables
from ganblocks.cli.options import AllowExternal, Json, ModelArgument, command_line, examples, takes_options
from ganblocks.errors import UsageError
from ganblocks.sampling.options import SamplingOptions
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
    allow_external: AllowExternal = False,
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
        command=command_line(),
    )
    if json:
        tables.print_json(record)
        return
    for program in record["programs"].values():
        difference = program["difference"]
        checked = "not checked (pip install onnxruntime)" if difference is None else f"difference {difference:.1e}"
        inputs = ", ".join(f"{key} {shape}" for key, shape in program["inputs"].items())
        typer.echo(printable(f"{folder / program['file']}: {inputs} -> {program['output']}; {checked}"))


@examples("ganblocks demo runs/digits", "ganblocks demo model.safetensors --port 8000 --device cpu")
@takes_options(SamplingOptions, without=tuple(set(SamplingOptions.flags()) - {"device", "precision", "allow_external"}))
def demo(
    model: ModelArgument,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines too.", metavar="ADDRESS")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port.", metavar="N", show_default="the first free one from 7860"),
    ] = None,
    *,
    options: SamplingOptions,
) -> None:
    """Serve a page that makes images of a model: seeds, truncation, classes or prompts, style mixing, interpolation."""
    from ganblocks.publishing.demo import serve

    serve(model, host=host, port=port, options=options)


@examples("ganblocks push runs/digits me/digits", "ganblocks push runs/digits me/digits --private --license apache-2.0")
def push(
    model: ModelArgument,
    repo: Annotated[str, typer.Argument(help="The repository on the Hugging Face Hub.", metavar="USER/MODEL")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    license: Annotated[
        str | None, typer.Option(help="The Hub's name of the model's licence, such as apache-2.0.", metavar="NAME")
    ] = None,
    message: Annotated[
        str | None, typer.Option(help="Commit message.", metavar="TEXT", show_default="Upload a model with ganblocks")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--to-folder", help="Write the files to a folder; upload nothing.", metavar="PATH")
    ] = None,
    allow_external: AllowExternal = False,
) -> None:
    """Publish a generator on the Hugging Face Hub with its spec, a model card and samples."""
    from ganblocks.publishing.hub import FILES, check_repository, push_to_hub, save_pretrained

    if folder is not None:
        if private or message is not None:
            raise UsageError("--private and --message are for the Hub; omit them with --to-folder")
        check_repository(repo)
        save_pretrained(model, folder, name=repo, license=license, allow_external=allow_external)
        typer.echo(printable(f"{folder}: {', '.join(name for name in FILES if (folder / name).exists())}"))
        return
    options = {} if message is None else {"message": message}
    address = push_to_hub(model, repo, private=private, license=license, allow_external=allow_external, **options)
    typer.echo(printable(address))


@examples("ganblocks pull me/digits models/digits", "ganblocks pull me/digits models/digits --revision v1")
def pull(
    repo: Annotated[str, typer.Argument(help="A repository on the Hugging Face Hub.", metavar="USER/MODEL")],
    folder: Annotated[Path, typer.Argument(help="The folder to write.", metavar="FOLDER")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.", metavar="NAME")] = None,
) -> None:
    """Download a model from the Hugging Face Hub. Nothing in it is run."""
    from ganblocks.publishing.hub import pull

    path = pull(repo, folder, revision=revision)
    typer.echo(printable(f"{path}; make images with: ganblocks sample {shlex.quote(str(folder))}"))
