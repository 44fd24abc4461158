"""The commands on style vectors: directions, edit and project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ganblocks.cli import tables
from ganblocks.cli.options import Json, ModelArgument, examples, takes_options
from ganblocks.cli.sample import numbers_in, seeds_in
from ganblocks.sampling.options import IMAGES, OUTPUT, SamplingOptions
from registry.text import counted, printable


@examples(
    "ganblocks directions runs/mine --out directions.safetensors",
    "ganblocks directions runs/mine --method sefa --count 5 --class 3",
)
@takes_options(SamplingOptions, without=("truncation_cutoff",))
def directions(
    model: ModelArgument,
    count: Annotated[int, typer.Option(min=1, help="Number of directions.", metavar="N")] = 10,
    method: Annotated[
        Literal["ganspace", "sefa"], typer.Option(help="Principal components of w, or the closed form of SeFa.")
    ] = "ganspace",
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the image in the picture.", metavar="N", rich_help_panel=IMAGES)
    ] = 0,
    out: Annotated[
        Path, typer.Option(help="The file; a picture .png lies beside it.", metavar="PATH", rich_help_panel=OUTPUT)
    ] = Path("directions.safetensors"),
    json: Json = False,
    *,
    options: SamplingOptions,
) -> None:
    """Find directions of the style space along which images change most, with a picture of each."""
    from ganblocks.latents.edit import write_directions

    record = write_directions(model, out, count=count, method=method, seed=seed, options=options)
    text = f"{counted(count, 'direction')} as {out}; picture {record['picture']}"
    tables.print_json(record) if json else typer.echo(printable(text))


@examples(
    "ganblocks edit runs/mine --directions directions.safetensors --index 2",
    "ganblocks edit runs/mine --directions directions.safetensors --seeds 0-3 --strengths -4,0,4 --styles coarse",
)
@takes_options(SamplingOptions, without=("truncation_cutoff",))
def edit(
    model: ModelArgument,
    directions: Annotated[
        Path, typer.Option("--directions", "--direction", help="A file of `ganblocks directions`.", metavar="FILE")
    ],
    index: Annotated[int, typer.Option(min=0, help="Which direction.", metavar="N")] = 0,
    seeds: Annotated[str, typer.Option(help="Seeds: the rows.", metavar="SEEDS", rich_help_panel=IMAGES)] = "0-3",
    strengths: Annotated[
        str, typer.Option(help="Standard deviations: the columns.", metavar="NUMBERS", rich_help_panel=IMAGES)
    ] = "-3,-1.5,0,1.5,3",
    styles: Annotated[
        str | None,
        typer.Option(
            help="coarse, middle, fine, or indices such as 0-3.",
            metavar="STYLES",
            rich_help_panel=IMAGES,
            show_default="all",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The picture.", metavar="PATH", rich_help_panel=OUTPUT)] = Path("edit.png"),
    json: Json = False,
    *,
    options: SamplingOptions,
) -> None:
    """Move images along a direction: a row for each seed, a column for each strength."""
    from ganblocks.latents.edit import save_edits

    record = save_edits(
        model,
        seeds_in(seeds),
        directions,
        out,
        index=index,
        strengths=numbers_in(strengths, "--strengths"),
        groups=[name.strip() for name in styles.split(",")] if styles else (),
        options=options,
    )
    tables.print_json(record) if json else typer.echo(printable(f"{counted(record['images'], 'image')} as {out}"))


@examples(
    "ganblocks project runs/mine face.png --space w+ --steps 1000",
    "ganblocks project runs/mine face.png --features lpips --set weights=lpips.pth --set backbone_weights=vgg16.pth",
)
@takes_options(SamplingOptions, without=("truncation_psi", "truncation_cutoff", "noise", "batch_size", "precision"))
def project(
    model: ModelArgument,
    image: Annotated[Path, typer.Argument(help="A picture.", metavar="IMAGE")],
    space: Annotated[Literal["w", "w+"], typer.Option(help="One style vector for all layers, or one for each.")] = "w",
    steps: Annotated[int, typer.Option(min=1, help="Steps of the optimisation.", metavar="N")] = 500,
    learning_rate: Annotated[float, typer.Option(min=0, help="Highest learning rate.", metavar="X")] = 0.1,
    features: Annotated[
        str | None,
        typer.Option(
            help="Perceptual loss in these features, such as lpips or timm.",
            metavar="KIND",
            show_default="pixels and their pyramid",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Option of the features, such as weights=lpips.pth; repeat.", metavar="PATH=VALUE"),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder to write.", metavar="FOLDER", rich_help_panel=OUTPUT)] = Path(
        "projection"
    ),
    json: Json = False,
    *,
    options: SamplingOptions,
) -> None:
    """Find the style vectors whose image is nearest to a picture."""
    from ganblocks.latents.project_image import save_projection

    record = save_projection(
        model,
        image,
        out,
        space=space,
        steps=steps,
        learning_rate=learning_rate,
        features=features,
        settings=settings or (),
        options=options,
    )
    text = f"{out}: {record['psnr']:.1f} dB; {', '.join(record['files'])}"
    tables.print_json(record) if json else typer.echo(printable(text))
