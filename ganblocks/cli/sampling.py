"""The commands that make pictures of a model: sample, truncation, mix, walk, attention. All take the same options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Model = Annotated[Path, typer.Argument(help="A run folder, or a model's .safetensors file.", metavar="RUN_OR_MODEL")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Psi = Annotated[
    float, typer.Option("--truncation-psi", "--truncation", help="Below 1: nearer to the mean, better but more alike.")
]
Cutoff = Annotated[int | None, typer.Option(min=0, help="How many style vectors are truncated; by default all.")]
Classes = Annotated[str | None, typer.Option("--class", help="Classes of a conditional generator, such as 3 or 0-9.")]
Captions = Annotated[
    list[str] | None,
    typer.Option(
        "--caption", "--prompt", help="What a generator that is told by text shall paint; may be given again."
    ),
]
Noise = Annotated[
    Literal["const", "random", "none"], typer.Option(help="What layers with noise add; random follows from the seed.")
]
Batch = Annotated[
    int | None, typer.Option(min=1, help="Images drawn at once; by default the fewer, the larger they are.")
]
Mixed = Annotated[Literal["no", "bf16", "fp16"], typer.Option("--precision", help="Mixed precision; fp16 needs a GPU.")]
Device = Annotated[str, typer.Option(help="Such as cpu or cuda.")]


def sample(
    model: Model,
    seeds: Annotated[str, typer.Option(help="Such as 0-15 or 1,5,8-10.")] = "0-15",
    out: Annotated[Path, typer.Option(help="A picture for a grid of all, or a folder for one file each.")] = Path(
        "samples.png"
    ),
    truncation_psi: Psi = 1.0,
    truncation_cutoff: Cutoff = None,
    class_: Classes = None,
    caption: Captions = None,
    noise: Noise = "const",
    batch_size: Batch = None,
    precision: Mixed = "no",
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Draw images; a seed gives the same one each time. Several classes or captions give a row each."""
    from ganblocks.sampling.generate import sample_files

    made = sample_files(
        model,
        parse_seeds(seeds),
        out,
        truncation_psi=truncation_psi,
        truncation_cutoff=truncation_cutoff,
        classes=parse_classes(class_),
        captions=caption or (),
        noise=noise,
        batch_size=batch_size,
        precision=precision,
        device=device,
    )
    resolve_conditions(
        made, json, f"{made['images']} images {'as' if out.suffix and not out.is_dir() else 'into'} {out}"
    )


def truncation(
    model: Model,
    seeds: Annotated[str, typer.Option(help="A row each.")] = "0-3",
    psi: Annotated[
        str, typer.Option(help="A column each: 0 is the mean image, 1 the seed's own.")
    ] = "0,0.25,0.5,0.75,1",
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("truncation.png"),
    truncation_cutoff: Cutoff = None,
    class_: Classes = None,
    caption: Captions = None,
    noise: Noise = "const",
    batch_size: Batch = None,
    precision: Mixed = "no",
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Draw a truncation sweep: the same seeds from the mean image to their own."""
    from ganblocks.sampling.truncation import truncation_files

    made = truncation_files(
        model,
        parse_seeds(seeds),
        out,
        psis=parse_numbers(psi, "--psi"),
        truncation_cutoff=truncation_cutoff,
        classes=parse_classes(class_),
        captions=caption or (),
        noise=noise,
        batch_size=batch_size,
        precision=precision,
        device=device,
    )
    resolve_conditions(made, json, f"{made['images']} images as {out}")


def mix(
    model: Model,
    sources: Annotated[str, typer.Option(help="Seeds that give styles: the columns.")] = "0-4",
    destinations: Annotated[str, typer.Option(help="Seeds that receive them: the rows.")] = "5-7",
    styles: Annotated[
        str | None,
        typer.Option(help="What is taken over: coarse, middle, fine (by default each), or numbers such as 0-3."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("mix.png"),
    truncation_psi: Psi = 1.0,
    truncation_cutoff: Cutoff = None,
    class_: Classes = None,
    caption: Captions = None,
    noise: Noise = "const",
    batch_size: Batch = None,
    precision: Mixed = "no",
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Draw a style-mixing grid: images on the left, with styles of those above."""
    from ganblocks.sampling.style_mixing import style_mix_files

    made = style_mix_files(
        model,
        parse_seeds(sources, "--sources"),
        parse_seeds(destinations, "--destinations"),
        out,
        groups=[name.strip() for name in styles.split(",")] if styles else (),
        truncation_psi=truncation_psi,
        truncation_cutoff=truncation_cutoff,
        classes=parse_classes(class_),
        captions=caption or (),
        noise=noise,
        batch_size=batch_size,
        precision=precision,
        device=device,
    )
    named = ", ".join(f"{name.replace(' styles', ':')}" for name in made["styles"])
    resolve_conditions(made, json, f"{made['images']} images as {out} (styles {named})")


def walk(
    model: Model,
    seeds: Annotated[str, typer.Option(help="The stations, in their order.")] = "0-3",
    steps: Annotated[int, typer.Option(min=1, help="Images from one station to the next.")] = 24,
    space: Annotated[
        Literal["w", "z"], typer.Option(help="w: straight between styles; z: along the sphere between latents.")
    ] = "w",
    loop: Annotated[bool, typer.Option("--loop", help="Go back to the first station at the end.")] = False,
    out: Annotated[
        Path,
        typer.Option(help="An animation (.gif, .apng, .webp), a grid with a row a stretch (.png), a folder of frames."),
    ] = Path("walk.gif"),
    fps: Annotated[float, typer.Option(min=1, max=100, help="Images a second of an animation.")] = 24.0,
    truncation_psi: Psi = 1.0,
    truncation_cutoff: Cutoff = None,
    class_: Classes = None,
    caption: Captions = None,
    noise: Noise = "const",
    batch_size: Batch = None,
    precision: Mixed = "no",
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Walk through the latents from seed to seed; as many classes or captions as seeds are walked through as well."""
    from ganblocks.sampling.interpolation import interpolate_files

    made = interpolate_files(
        model,
        parse_seeds(seeds),
        out,
        steps=steps,
        space=space,
        loop=loop,
        fps=fps,
        truncation_psi=truncation_psi,
        truncation_cutoff=truncation_cutoff,
        classes=parse_classes(class_),
        captions=caption or (),
        noise=noise,
        batch_size=batch_size,
        precision=precision,
        device=device,
    )
    resolve_conditions(
        made, json, f"{made['images']} images {'as' if out.suffix and not out.is_dir() else 'into'} {out}"
    )


def attention(
    model: Model,
    seed: Annotated[int, typer.Option(min=0, help="The image.")] = 0,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y", help="A query, in pixels from the left and from above; may be given again."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder for a picture of each block of attention.")] = Path("attention"),
    size: Annotated[int, typer.Option(min=16, help="Side of each small picture, in pixels.")] = 128,
    truncation_psi: Psi = 1.0,
    truncation_cutoff: Cutoff = None,
    class_: Classes = None,
    caption: Captions = None,
    noise: Noise = "const",
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Draw what each head attends to in one image: for chosen pixels, on average, and by its queries and keys."""
    from ganblocks.sampling.attention_sheets import attention_map_files

    made = attention_map_files(
        model,
        seed,
        out,
        at=[parse_point(text) for text in at or ()],
        size=size,
        truncation_psi=truncation_psi,
        truncation_cutoff=truncation_cutoff,
        classes=parse_classes(class_),
        captions=caption or (),
        noise=noise,
        device=device,
    )
    lines = [f"{len(made['blocks'])} blocks of attention into {out}, first {made['overview']}"]
    lines += [f"no picture of {each['path']} ({each['kind']}): {each['reason']}" for each in made["unseen"]]
    resolve_conditions(made, json, "\n".join(lines))


COMMANDS = (sample, truncation, mix, walk, attention)


def resolve_conditions(made: Mapping[str, Any], json: bool, said: str) -> None:
    """What was written, as JSON or in words."""
    from ganblocks.cli.tables import print_json

    print_json(made) if json else typer.echo(f"wrote {said}")


def parse_seeds(text: str, option: str = "--seeds", what: str = "seeds") -> list[int]:
    """Seeds from text such as 0-15 or 1,5,8-10."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise typer.BadParameter(f"{text!r} is not a list of {what}; write 0-15 or 1,5,8-10", param_hint=option)
        found += range(int(first), int(last or first) + 1)
    if not found:
        raise typer.BadParameter(f"{text!r} holds no {what}; a range goes upwards", param_hint=option)
    return found


def parse_classes(text: str | None) -> list[int]:
    """Classes, written as seeds are."""
    return [] if text is None else parse_seeds(text, "--class", "classes")


def parse_numbers(text: str, option: str) -> list[float]:
    """Numbers from text such as 0,0.5,1."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of numbers; write 0,0.5,1", param_hint=option) from None


def parse_point(text: str) -> tuple[int, int]:
    """A pixel, from the left and from above, from text such as 120,64."""
    x, comma, y = (part.strip() for part in text.partition(","))
    if not comma or not x.isdigit() or not y.isdigit():
        raise typer.BadParameter(f"{text!r} is not a pixel; write X,Y such as 120,64", param_hint="--at")
    return int(x), int(y)
