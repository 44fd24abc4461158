"""The commands on data sets: `ganblocks data check`, `ganblocks data prepare` and `ganblocks data encode`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from ganblocks.cli import tables
from ganblocks.cli.options import Json, takes_options
from ganblocks.data.preparation.options import PrepareOptions
from ganblocks.options import ResizeFilter
from registry.text import counted, printable

CHECKED = 64  # images of a contact sheet
LISTED = 10  # files in a list
EXAMPLES = (
    "ganblocks data check photos",
    "ganblocks data check photos --sheet sheet.png",
    "ganblocks data prepare photos photos-256 --resolution 256 --shards 64 --holdout 0.02",
    "ganblocks data encode images latents --encoder autoencoder-kl --resolution 256 --num-classes 1000",
    "ganblocks data encode digits latents --encoder tiny.yaml --resolution 16",
)
EPILOG = "\n\n".join(("Examples:", *EXAMPLES))

data = typer.Typer(help="Prepare data sets.", epilog=EPILOG, no_args_is_help=True)


@data.command("check", epilog=EPILOG)
def check(
    source: Annotated[str, typer.Argument(help="Folder, .zip, .tar shards or parquet files.", metavar="DATA")],
    sheet: Annotated[
        Path | None, typer.Option(help="Picture to write: 64 of the images, evenly spaced.", metavar="FILE")
    ] = None,
    json: Json = False,
) -> None:
    """Decode all images of a data set and report files that cannot be read, sizes, duplicates and labels."""
    import torch

    from ganblocks.data.decode import decode
    from ganblocks.data.preparation.check import check_data
    from ganblocks.data.preparation.progress_bar import progress_bar
    from ganblocks.sampling.grids import save_grid
    from ganblocks.sampling.pictures import check_picture

    if sheet is not None:
        check_picture(sheet, "--sheet")
    with progress_bar("checking images") as progress:
        report = check_data(source, progress)
    if sheet is not None and report.images:
        side = min(64, max(max(size) for size in report.sizes))
        shown = min(CHECKED, report.images)
        sheet.parent.mkdir(parents=True, exist_ok=True)
        locations = [report.locations[index * report.images // shown] for index in range(shown)]
        save_grid([torch.from_numpy(decode(each, (side, side), 3, "lanczos")) for each in locations], sheet)
    if json:
        tables.print_json(report.to_dict())
        return
    lines = [f"{counted(report.images, 'image')}, {report.num_bytes / 1e6:,.1f} MB, in {report.source}"]
    lines.append("sizes: " + _counted({f"{width} x {height}": n for (width, height), n in report.sizes.items()}))
    lines += [f"modes: {_counted(report.modes)}; formats: {_counted(report.formats)}"]
    if report.classes is not None:
        lines.append(f"{counted(len(report.classes), 'class', 'classes')}: {_counted(report.classes)}")
    if report.captions is not None:
        lines.append(counted(report.captions, "caption"))
    lines += report.notes
    if report.duplicates:
        copies = sum(len(group) - 1 for group in report.duplicates)
        lines.append(f"{counted(copies, 'duplicate')} of {counted(len(report.duplicates), 'image')}:")
        lines += _listed(" = ".join(group) for group in report.duplicates)
    if report.unreadable:
        lines.append(f"{counted(len(report.unreadable), 'file')} not readable:")
        lines += _listed(map(str, report.unreadable))
    typer.echo(printable("\n".join(lines)))


@data.command("prepare", epilog=EPILOG)
@takes_options(PrepareOptions)
def prepare(
    source: Annotated[str, typer.Argument(help="Folder, .zip, .tar shards or parquet files.", metavar="DATA")],
    out: Annotated[Path, typer.Argument(help="The folder to write.", metavar="OUT")],
    json: Json = False,
    *,
    options: PrepareOptions,
) -> None:
    """Convert a data set into tar shards of one resolution, with a held-out split and a manifest.

    The same data and options give the same bytes. An interrupted conversion continues with the same command.
    """
    from ganblocks.data.preparation.prepare import prepare_data
    from ganblocks.data.preparation.progress_bar import progress_bar

    with progress_bar("converting images") as progress:
        manifest = prepare_data(source, out, progress, options=options)
    if json:
        tables.print_json(manifest.model_dump(mode="json"))
        return
    lines = [f"{counted(count, 'image')} in {out / split}" for split, count in manifest.images.items()]
    if manifest.skipped:
        lines.append(f"{counted(len(manifest.skipped), 'file')} not readable:")
        lines += _listed(": ".join(each) for each in manifest.skipped)
    typer.echo(printable("\n".join(lines)))


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
    resize_filter: Annotated[ResizeFilter, typer.Option(help="Filter for resizing.")] = "lanczos",
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
    lines = [
        f"{counted(result.images, 'image')} as latents of {shape} in {out}",
        *([result.skipped] if result.skipped else []),
    ]
    lines.append(f"unscaled: mean {result.mean:.4g}, standard deviation {result.deviation:.4g}")
    typer.echo(printable("\n".join(lines)))


def _counted(counts: Mapping[str, int]) -> str:
    """The first counts in words, such as `32 x 32 (1,797), ...`."""
    shown = [f"{name} ({count:,})" for name, count in list(counts.items())[:LISTED]]
    return ", ".join(shown + ["..."] * (len(counts) > LISTED)) or "none"


def _listed(lines: Iterable[str]) -> list[str]:
    """The first lines, indented, and how many more there are."""
    every = list(lines)
    more = [f"  and {len(every) - LISTED:,} more"] if len(every) > LISTED else []
    return [f"  {line}" for line in every[:LISTED]] + more
