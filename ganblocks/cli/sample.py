"""The commands that make images of a model: sample, truncation, style-mix, interpolate, attention-maps."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ganblocks.cli.options import Json, ModelArgument, examples, takes_options
from ganblocks.cli.tables import print_json
from ganblocks.errors import UsageError
from ganblocks.sampling.options import IMAGES, OUTPUT, SamplingOptions, parse_ranges
from registry.text import counted, printable

Seeds = Annotated[str, typer.Option(help="Such as 0-15 or 1,5,8-10.", metavar="SEEDS", rich_help_panel=IMAGES)]
Picture = Annotated[Path, typer.Option(help="The picture to write.", metavar="FILE", rich_help_panel=OUTPUT)]


@examples(
    "ganblocks sample runs/mine --seeds 0-15 --out samples.png", "ganblocks sample runs/mine --class 0-9 --out grid.png"
)
@takes_options(SamplingOptions)
def sample(
    model: ModelArgument,
    seeds: Seeds = "0-15",
    out: Annotated[
        Path,
        typer.Option(help="A picture, or a folder for a PNG per seed.", metavar="PATH", rich_help_panel=OUTPUT),
    ] = Path("samples.png"),
    json: Json = False,
    *,
    options: SamplingOptions,
) -> None:
    """Generate images, one per seed. Several classes or prompts make a row each."""
    from ganblocks.sampling.samples import save_samples

    record = save_samples(model, seeds_in(seeds), out, options=options)
    _report(record, json, f"{counted(record['images'], 'image')} {_into(out)}")


@examples("ganblocks truncation runs/mine", "ganblocks truncation runs/mine --seeds 0-7 --psi 0,0.5,0.7,1")
@takes_options(SamplingOptions, without=("truncation_psi",))
def truncation(
    model: ModelArgument,
    seeds: Seeds = "0-3",
    psi: Annotated[
        str,
        typer.Option(
            help="Values of truncation psi: 0 is the mean image, 1 no truncation.",
            metavar="NUMBERS",
            rich_help_panel=IMAGES,
        ),
    ] = "0,0.25,0.5,0.75,1",
    out: Picture = Path("truncation.png"),
    json: Json = False,
    *,
    options: SamplingOptions,
) -> None:
    """Write a truncation sweep: a row per seed, a column per psi."""
    from ganblocks.sampling.truncation import save_truncation_sweep

    record = save_truncation_sweep(model, seeds_in(seeds), out, psis=numbers_in(psi, "--psi"), options=options)
    _report(record, json, f"{counted(record['images'], 'image')} as {out}")


@examples(
    "ganblocks style-mix runs/mine", "ganblocks style-mix runs/mine --sources 0-4 --destinations 5-7 --styles 0-1"
)
@takes_options(SamplingOptions)
def style_mix(
    model: ModelArgument,
    sources: Annotated[
        str, typer.Option(help="Seeds whose styles are taken: columns.", metavar="SEEDS", rich_help_panel=IMAGES)
    ] = "0-4",
    destinations: Annotated[
        str, typer.Option(help="Seeds that receive them: rows.", metavar="SEEDS", rich_help_panel=IMAGES)
    ] = "5-7",
    styles: Annotated[
        str | None,
        typer.Option(
            help="coarse, middle, fine, or indices such as 0-3.",
            metavar="STYLES",
            rich_help_panel=IMAGES,
            show_default="all three groups",
        ),
    ] = None,
    out: Picture = Path("style-mix.png"),
    json: Json = False,
    *,
    options: SamplingOptions,
) -> None:
    """Write a style-mixing grid: images on the left with styles of the images above."""
    from ganblocks.sampling.style_mixing import save_style_mixing

    record = save_style_mixing(
        model,
        seeds_in(sources, "--sources"),
        seeds_in(destinations, "--destinations"),
        out,
        groups=[name.strip() for name in styles.split(",")] if styles else (),
        options=options,
    )
    names = ", ".join(name.replace(" styles", ":") for name in record["styles"])
    _report(record, json, f"{counted(record['images'], 'image')} as {out} (styles {names})")


@examples(
    "ganblocks interpolate runs/mine --seeds 0-3 --loop --out loop.gif",
    "ganblocks interpolate runs/mine --seeds 0-3 --steps 8 --space z --out strip.png",
)
@takes_options(SamplingOptions)
def interpolate(
    model: ModelArgument,
    seeds: Annotated[str, typer.Option(help="Seeds, in their order.", metavar="SEEDS", rich_help_panel=IMAGES)] = "0-3",
    steps: Annotated[
        int, typer.Option(min=1, help="Images from one seed to the next.", metavar="N", rich_help_panel=IMAGES)
    ] = 24,
    space: Annotated[
        Literal["w", "z"], typer.Option(help="w: linear; z: along the sphere.", rich_help_panel=IMAGES)
    ] = "w",
    loop: Annotated[bool, typer.Option("--loop", help="Return to the first seed.", rich_help_panel=IMAGES)] = False,
    out: Annotated[
        Path,
        typer.Option(
            help="An animation (.gif, .apng, .webp, .mp4), a grid (.png), or a folder of frames.",
            metavar="PATH",
            rich_help_panel=OUTPUT,
        ),
    ] = Path("interpolation.gif"),
    fps: Annotated[
        float,
        typer.Option(min=1, max=100, help="Frames per second of an animation.", metavar="X", rich_help_panel=OUTPUT),
    ] = 24.0,
    json: Json = False,
    *,
    options: SamplingOptions,
) -> None:
    """Interpolate between seeds; with as many classes or prompts as seeds, between these too."""
    from ganblocks.sampling.interpolation import save_interpolation

    record = save_interpolation(
        model, seeds_in(seeds), out, steps=steps, space=space, loop=loop, fps=fps, options=options
    )
    _report(record, json, f"{counted(record['images'], 'image')} {_into(out)}")


@examples(
    "ganblocks attention-maps runs/mine --seed 3", "ganblocks attention-maps runs/mine --at 4,7 --at 10,2 --out maps"
)
@takes_options(SamplingOptions, without=("batch_size", "precision", "scale"))
def attention_maps(
    model: ModelArgument,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.", metavar="N", rich_help_panel=IMAGES)] = 0,
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y",
            help="A query, in pixels from the left and the top; repeat for several.",
            rich_help_panel=IMAGES,
            show_default="three",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for a picture per block.", metavar="FOLDER", rich_help_panel=OUTPUT)
    ] = Path("attention-maps"),
    size: Annotated[
        int, typer.Option(min=16, help="Side of each map in pixels.", metavar="N", rich_help_panel=OUTPUT)
    ] = 128,
    json: Json = False,
    *,
    options: SamplingOptions,
) -> None:
    """Write the attention weights of each head for one image: per query, averaged, and queries against keys."""
    from ganblocks.sampling.attention_sheets import save_attention_maps

    record = save_attention_maps(model, seed, out, at=[_point(text) for text in at or ()], size=size, options=options)
    lines = [f"{len(record['blocks'])} blocks of attention into {out}; start with {record['overview']}"]
    lines += [f"no maps of {each['path']} ({each['kind']}): {each['reason']}" for each in record["unavailable"]]
    _report(record, json, "\n".join(lines))


def _into(out: Path) -> str:
    return f"{'as' if out.suffix and not out.is_dir() else 'into'} {out}"


def _report(record: Mapping[str, Any], json: bool, summary: str) -> None:
    print_json(record) if json else typer.echo(printable(f"wrote {summary}"))


def seeds_in(text: str, option: str = "--seeds") -> tuple[int, ...]:
    try:
        return tuple(parse_ranges(text))
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}") from None


def numbers_in(text: str, option: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(map(isfinite, numbers)):
        raise UsageError(f"{option} {text}: should be numbers such as 0,0.5,1")
    return numbers


def _point(text: str) -> tuple[int, int]:
    x, comma, y = (part.strip() for part in text.partition(","))
    if not comma or not x.isdecimal() or not y.isdecimal():
        raise UsageError(f"--at {text}: should be a pixel X,Y such as 120,64")
    return int(x), int(y)
