"""The command `ganblocks`. What needs torch is imported inside the commands, so that help comes at once."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from ganblocks.cli import sampling as picture_commands

app = typer.Typer(
    name="ganblocks",
    help="Building blocks for transformer- and style-based GANs, composed by specs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


SpecArgument = Annotated[str, typer.Argument(help="A YAML or JSON file, or a preset's name.", metavar="SPEC")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        typer.echo(f"ganblocks {metadata.version('ganblocks')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
def blocks(
    kind: Annotated[str | None, typer.Argument(help="A kind or a family to show in full.")] = None,
    json: Json = False,
) -> None:
    """List the blocks that are installed, or show one with its options."""
    from ganblocks import describe
    from ganblocks.cli import tables as listing

    if kind is None:
        families = describe.families()
        listing.print_json(families) if json else listing.print_families(families)
        return
    families, entries = describe.named(kind)
    if json:
        listing.print_json(entries or families)
        return
    listing.print_families(families)
    for entry in entries:
        listing.print_block(entry)


@app.command()
def presets(json: Json = False) -> None:
    """List the presets: whole documents by name."""
    from ganblocks.cli import tables as listing
    from registry import catalogue
    from registry.spec import parse_docstring

    found = [
        {"preset": name, "summary": parse_docstring(function.__doc__)[0]}
        for name, function in catalogue.presets().items()
    ]
    listing.print_json(found) if json else listing.print_presets(found)


@app.command()
def doctor(json: Json = False) -> None:
    """Say what runs on this machine: plugins, versions, devices, and kernels with the reasons against them."""
    from ganblocks import diagnosis as doctor
    from ganblocks.cli import tables as listing

    found = doctor.diagnose()
    listing.print_json(found) if json else listing.print_doctor(found)


@app.command()
def schema(json: Json = True) -> None:
    """Print the JSON schema of a document, for editors, over all blocks that are installed."""
    from assemblies import document_schema
    from ganblocks.cli import tables as listing

    listing.print_json(document_schema())


@app.command()
def show(
    spec: SpecArgument,
    json: Json = False,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the images, where a discriminator stands alone.")
    ] = None,
    channels: Annotated[int, typer.Option(help="Channels of the images, where a discriminator stands alone.")] = 3,
) -> None:
    """Check a spec and show its steps: shapes, style vectors, parameters, multiply-adds."""
    from ganblocks.cli import tables as listing
    from ganblocks.cli.show import describe_spec

    plan = describe_spec(spec, resolution, channels)
    listing.print_json(plan) if json else listing.print_steps(plan)


@app.command()
def train(
    spec: Annotated[
        str | None,
        typer.Argument(help="A YAML or JSON file, or a preset's name; not needed to resume.", metavar="SPEC"),
    ] = None,
    data: Annotated[str | None, typer.Option(help="A folder of images, a .zip, .tar shards, or `digits`.")] = None,
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("run"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    init_generator: Annotated[
        Path | None, typer.Option(help="A run or a model file whose generator this one begins with.")
    ] = None,
    init_discriminator: Annotated[
        Path | None, typer.Option(help="A run or a model file whose discriminator this one begins with.")
    ] = None,
    kimg: Annotated[
        float | None, typer.Option(min=0, help="Thousands of images to show; instead of the spec's.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images in a step; instead of the spec's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="What all randomness follows from. By default 0.")] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Mirror half of the images. By default not.")
    ] = None,
    resize_filter: Annotated[
        Literal["lanczos", "bicubic", "bilinear", "box"] | None,
        typer.Option(help="How images of other sizes are resized. By default lanczos."),
    ] = None,
    precision: Annotated[Literal["no", "bf16", "fp16"], typer.Option(help="Mixed precision.")] = "no",
    device: Annotated[
        str | None, typer.Option(help="Such as cpu or cuda:1; by default an accelerator if there is one.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that decode images, where those do not fit into memory.")
    ] = 2,
    tick: Annotated[float, typer.Option(help="Thousands of images between two lines of the log.")] = 4.0,
    snapshot: Annotated[float, typer.Option(help="Seconds between two saves of model and checkpoint.")] = 60.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing.")] = False,
) -> None:
    """Train a GAN. Ctrl-C saves the state; --resume goes on from it exactly."""
    from ganblocks.errors import Interrupted
    from ganblocks.training.distributed import destroy_process_group
    from ganblocks.training.train import train

    try:
        run = train(
            spec,
            data,
            out,
            resume=resume,
            init_generator=init_generator,
            init_discriminator=init_discriminator,
            kimg=kimg,
            batch_size=batch_size,
            seed=seed,
            flip=flip,
            resize_filter=resize_filter,
            precision=precision,
            device=device,
            workers=workers,
            tick=tick,
            snapshot=snapshot,
            quiet=quiet,
            command=shlex.join(["ganblocks", *sys.argv[1:]]),
        )
    except Interrupted as error:  # here, because typer would swallow what it says
        destroy_process_group()
        leave(str(error), error.exit_code)
    destroy_process_group()
    if not quiet:
        typer.echo(
            f"done: {run.folder / 'model.safetensors'}; draw images with: "
            f"ganblocks sample {shlex.quote(str(run.folder))}"
        )


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="A checkpoint (.pt, .pth, .pkl) of StyleNAT, ViTGAN, Styleformer and the like.")
    ],
    target: Annotated[Path, typer.Argument(help="The model to write, a .safetensors file.")],
    network: Annotated[
        Literal["G_ema", "G", "D"] | None,
        typer.Option(help="Which network; by default the averaged generator, if there is one."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="What the file does not tell, as NAME=VALUE; may be repeated.", metavar="NAME=VALUE"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file at TARGET.")] = False,
    json: Json = False,
) -> None:
    """Turn a published checkpoint into a model file. Nothing in the checkpoint is run."""
    from ganblocks import conversion as convert
    from ganblocks.cli import tables as listing

    told = convert.convert(
        source,
        target,
        network=network,
        settings=settings or (),
        overwrite=overwrite,
        command=shlex.join(["ganblocks", *sys.argv[1:]]),
    )
    listing.print_json(told) if json else typer.echo("\n".join(convert.in_words(told)))


for command in picture_commands.COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command line; what a user can mend is told in one message, without a traceback."""
    from ganblocks.malloc import tune_malloc

    tune_malloc()
    try:
        app()
    except Exception as error:
        if not isinstance(error, mendable()):
            raise
        leave(str(error), 2)


def mendable() -> tuple[type[Exception], ...]:
    """Errors whose message says all that a user needs."""
    from ganblocks.errors import DataError, Diverged, RunError, UsageError
    from registry import DuplicateError, KernelError, SpecError

    found: list[Any] = [SpecError, KernelError, DuplicateError, DataError, RunError, UsageError, Diverged, OSError]
    if "assemblies" in sys.modules:
        from assemblies import CheckpointError

        found.append(CheckpointError)
    return tuple(found)


def leave(message: str, code: int) -> NoReturn:
    typer.echo(message, err=True)
    sys.exit(code)
