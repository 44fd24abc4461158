"""The command `ganblocks`. What needs torch is imported inside the commands, so that help comes at once."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

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
    from workbench import describe, listing

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
    from registry import catalogue
    from registry.spec import parse_docstring
    from workbench import listing

    found = [
        {"preset": name, "summary": parse_docstring(function.__doc__)[0]}
        for name, function in catalogue.presets().items()
    ]
    listing.print_json(found) if json else listing.print_presets(found)


@app.command()
def doctor(json: Json = False) -> None:
    """Say what runs on this machine: plugins, versions, devices, and kernels with the reasons against them."""
    from workbench import doctor, listing

    found = doctor.diagnose()
    listing.print_json(found) if json else listing.print_doctor(found)


@app.command()
def schema(json: Json = True) -> None:
    """Print the JSON schema of a document, for editors, over all blocks that are installed."""
    from assemblies import schema
    from workbench import listing

    listing.print_json(schema())


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
    from workbench import listing
    from workbench.plan import plan_of

    plan = plan_of(spec, resolution, channels)
    listing.print_json(plan) if json else listing.print_steps(plan)


@app.command()
def train(
    spec: Annotated[
        str | None,
        typer.Argument(help="A YAML or JSON file, or a preset's name; not needed to resume.", metavar="SPEC"),
    ] = None,
    data: Annotated[str | None, typer.Option(help="A folder of images, or `digits`.")] = None,
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("run"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
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
    from workbench.errors import Interrupted
    from workbench.process import leave_group
    from workbench.training import train

    try:
        run = train(
            spec,
            data,
            out,
            resume=resume,
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
        leave_group()
        leave(str(error), error.exit_code)
    leave_group()
    if not quiet:
        typer.echo(
            f"done: {run.folder / 'model.safetensors'}; draw images with: "
            f"ganblocks sample {shlex.quote(str(run.folder))}"
        )


@app.command()
def sample(
    model: Annotated[
        Path, typer.Argument(help="A run folder, or a model's .safetensors file.", metavar="RUN_OR_MODEL")
    ],
    seeds: Annotated[str, typer.Option(help="Such as 0-15 or 1,5,8-10.")] = "0-15",
    out: Annotated[Path, typer.Option(help="A picture for a grid of all, or a folder for one file each.")] = Path(
        "samples.png"
    ),
    truncation_psi: Annotated[float, typer.Option(help="Below 1: nearer to the mean, better but more alike.")] = 1.0,
    truncation_cutoff: Annotated[int | None, typer.Option(min=0, help="How many style vectors are truncated.")] = None,
    class_: Annotated[int | None, typer.Option("--class", min=0, help="The class, of a conditional generator.")] = None,
    device: Annotated[str, typer.Option(help="Such as cpu or cuda.")] = "cpu",
) -> None:
    """Draw images; a seed gives the same one each time."""
    from workbench.sample import sample_files

    written = sample_files(
        model,
        parse_seeds(seeds),
        out,
        truncation_psi=truncation_psi,
        truncation_cutoff=truncation_cutoff,
        chosen_class=class_,
        device=device,
    )
    typer.echo(f"wrote {written}")


def parse_seeds(text: str) -> list[int]:
    """Seeds from text such as 0-15 or 1,5,8-10."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise typer.BadParameter(f"{text!r} is not a list of seeds; write 0-15 or 1,5,8-10", param_hint="--seeds")
        found += range(int(first), int(last or first) + 1)
    if not found:
        raise typer.BadParameter(f"{text!r} holds no seed; a range goes upwards", param_hint="--seeds")
    return found


def main() -> None:
    """Run the command line; what a user can mend is told in one message, without a traceback."""
    try:
        app()
    except Exception as error:
        if not isinstance(error, mendable()):
            raise
        leave(str(error), 2)


def mendable() -> tuple[type[Exception], ...]:
    """Errors whose message says all that a user needs."""
    from registry import DuplicateError, KernelError, SpecError
    from workbench.errors import DataError, Diverged, RunError, UsageError

    found: list[Any] = [SpecError, KernelError, DuplicateError, DataError, RunError, UsageError, Diverged, OSError]
    if "assemblies" in sys.modules:
        from assemblies import CheckpointError

        found.append(CheckpointError)
    return tuple(found)


def leave(message: str, code: int) -> NoReturn:
    typer.echo(message, err=True)
    sys.exit(code)
