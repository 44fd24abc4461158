"""The options of `ganblocks evaluate`: the only place where they are declared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from ganblocks.metrics.protocols import Labels, ProtocolName, Quantisation
from ganblocks.options import NUM_SEEDS, Flag, Options, ResizeFilter
from ganblocks.precision import Precision
from ganblocks.sampling.options import HARDWARE, IMAGES

METRICS, REFERENCE = "Metrics", "Reference"
PROTOCOL = "protocol"


def parse_resolution(value: object) -> object:
    """Height and width from a number, or from text such as 256 or 128x256; other values are not changed.

    Raises:
        ValueError: The text has another form.
    """
    if isinstance(value, int):
        return value, value
    if not isinstance(value, str):
        return value
    sides = value.split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise ValueError("should be written like 256 or 128x256")
    return int(sides[0]), int(sides[-1])


class EvaluationOptions(Options):
    """Options of an evaluation; None for the protocol's value."""

    protocol: Annotated[
        ProtocolName,
        Field(description="stylegan-full, stylenat-50k, r3gan or gat-adm."),
        Flag(METRICS, metavar="NAME"),
    ] = "stylegan-full"
    num: Annotated[
        int | None, Field(ge=2, description="Number of generated images."), Flag(METRICS, default=PROTOCOL)
    ] = None
    extractor_weights: Annotated[
        tuple[str, ...],
        Field(description="Weights of an extractor; repeat for several."),
        Flag(METRICS, metavar="[KIND=]FILE", type=list[str]),
    ] = ()
    settings: Annotated[
        tuple[str, ...],
        Field(description="Such as kid.subsets=50; repeat for several."),
        Flag(METRICS, ("--set",), "PATH=VALUE", list[str]),
    ] = ()
    reference: Annotated[
        Path | None, Field(description="An .npz file of statistics instead of data."), Flag(REFERENCE, metavar="FILE")
    ] = None
    reference_num: Annotated[
        int | None, Field(ge=2, description="Number of real images, at random."), Flag(REFERENCE, default=PROTOCOL)
    ] = None
    resize_filter: Annotated[
        ResizeFilter | None,
        Field(description="lanczos, bicubic, bilinear or box."),
        Flag(REFERENCE, metavar="FILTER", default="the run's"),
    ] = None
    save_reference: Annotated[
        Path | None,
        Field(description="Write the statistics of real images."),
        Flag(REFERENCE, metavar="FILE"),
    ] = None
    resolution: Annotated[
        tuple[PositiveInt, PositiveInt] | None,
        BeforeValidator(parse_resolution),
        Field(description="Size of real images without a model, such as 256 or 128x256."),
        Flag(REFERENCE, metavar="SIZE", type=str, default="the model's"),
    ] = None
    no_cache: Annotated[bool, Field(description="Compute the statistics of real images anew."), Flag(REFERENCE)] = False
    seed: Annotated[
        int, Field(ge=0, lt=NUM_SEEDS // 2, description="Seed of the first image."), Flag(IMAGES, metavar="N")
    ] = 0
    quantisation: Annotated[
        Quantisation | None,
        Field(description="round, floor or round-bfloat16."),
        Flag(IMAGES, metavar="NAME", default=PROTOCOL),
    ] = None
    truncation_psi: Annotated[
        float | None,
        Field(description="Truncation; 1 for none."),
        Flag(IMAGES, ("--truncation-psi", "--truncation"), default=PROTOCOL),
    ] = None
    truncation_cutoff: Annotated[
        int | None, Field(ge=0, description="Style vectors truncated."), Flag(IMAGES, default="all")
    ] = None
    noise: Annotated[
        Literal["const", "random", "none"] | None,
        Field(description="const, random or none."),
        Flag(IMAGES, metavar="NAME", default=PROTOCOL),
    ] = None
    labels: Annotated[
        Labels | None,
        Field(description="Classes: data, uniform or balanced."),
        Flag(IMAGES, metavar="NAME", default=PROTOCOL),
    ] = None
    batch_size: Annotated[
        int | None, Field(ge=1, description="Images per batch."), Flag(HARDWARE, default="by resolution")
    ] = None
    precision: Annotated[Precision, Field(description="Precision of the synthesis."), Flag(HARDWARE)] = "fp32"
    device: Annotated[str | None, Field(description="Such as cpu or cuda."), Flag(HARDWARE, default="accelerator")] = (
        None
    )
    allow_external: Annotated[bool, Field(description="Open files that the model file names."), Flag(HARDWARE)] = False
    command: str = ""
