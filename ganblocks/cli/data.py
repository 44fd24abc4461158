"""The commands on data sets: `ganblocks data encode`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer

from ganblocks.cli import tables
from ganblocks.cli.options import Json
from registry.text import printable

EXAMPLES = (
    "ganblocks data encode images latents --encoder autoencoder-kl --resolution 256 --num-classes 1000",
    "ganblocks data encode digits latents --encoder tiny.yaml --resolution 16",
)
EPILOG = "\n\n".join(("Examples:", *EXAMPLES))

data = typer.Typer(help="Prepare data sets.", epilog=EPILOG, no_args_is_help=True)


@data.callback()
def common() -> None:
    """Prepare data sets."""


@data.command("encode", epilog=EPILOG)
def encode(
    images: Annotated[str, typer.Argument(help="Folder, .zip, .tar shards or digits.", metavar="IMAGES")],
    out: Annotated[Path, typer.Argument(help="The folder to write.", metavar="OUT")],
    encoder: Annotated[
        str, typer.Option(help="An autoencoder: its kind, or a YAML or JSON file with its spec.", metavar="SPEC")
    ],
    resolution: Annotated[int, typer.Option(min=1, help="Side of the images in pixels.", metavar="N")],
    num_classes: Annotated[int, typer.Option(min=0, help="Number of classes; 0: no labels.", metavar="N")] = 0,
    keep_images: Annotated[
        bool, typer.Option("--keep-images", help="Write the images too, for token-alignment.")
    ] = False,
    resize_filter: Annotated[
        Literal["lanczos", "bicubic", "bilinear", "box"], typer.Option(help="Filter for resizing.")
    ] = "lanczos",
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.", metavar="N")] = 16,
    device: Annotated[
        str | None, typer.Option(help="Such as cpu or cuda:1.", metavar="TEXT", show_default="a GPU, if any")
    ] = None,
    allow_external: Annotated[
        bool, typer.Option("--allow-external", help="Download weights that the spec names.")
    ] = False,
    json: Json = False,
) -> None:
    """Encode images as latents, for trainings whose generators make latents."""
    from assemblies import parse, read
    from blocks.families import Autoencoder
    from ganblocks.data.encoded.encode import encode
    from ganblocks.sampling.load import inference_device
    from registry.external_files import external_files

    is_file = Path(encoder).suffix in (".yaml", ".yml", ".json")
    spec = read(encoder, Autoencoder) if is_file else parse(encoder, Autoencoder, subject="--encoder")
    with external_files(allowed=True) if allow_external else nullcontext():
        result = encode(
            images,
            out,
            spec,
            resolution=resolution,
            num_classes=num_classes,
            keep_images=keep_images,
            resize_filter=resize_filter,
            batch_size=batch_size,
            device=inference_device(device),
        )
    if json:
        tables.print_json(result._asdict() | {"out": str(out)})
        return
    shape = " x ".join(map(str, result.latent_shape))
    lines = [f"{result.images:,} images as latents of {shape} in {out}", *([result.skipped] if result.skipped else [])]
    lines.append(f"unscaled: mean {result.mean:.4g}, standard deviation {result.deviation:.4g}")
    typer.echo(printable("\n".join(lines)))
