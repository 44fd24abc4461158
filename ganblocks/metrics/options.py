"""The options of `ganblocks evaluate`: the only place where they are declared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from assemblies.gan import ResizeFilter
from ganblocks.metrics.protocols import Labels, ProtocolName, Quantisation
from ganblocks.options import Flag, Options
from ganblocks.precision import Precision
from ganblocks.sampling.options import CONDITION, HARDWARE, IMAGES

METRICS, REFERENCE = "Metrics", "Reference"
PROTOCOLS = "the protocol's"


class EvaluationOptions(Options):
    """Options of an evaluation; None for the protocol's value."""

    protocol: Annotated[
        ProtocolName, Field(description="Protocol of published numbers, which fixes what follows."), Flag(METRICS)
    ] = "stylegan-full"
    num: Annotated[
        int | None, Field(ge=2, description="Number of generated images."), Flag(METRICS, default=PROTOCOLS)
    ] = None
    extractor_weights: Annotated[
        tuple[str, ...],
        Field(description="A file of weights, as FILE or KIND=FILE with the extractor's kind; repeat for several."),
        Flag(METRICS, metavar="[KIND=]FILE", type=list[str]),
    ] = ()
    settings: Annotated[
        tuple[str, ...],
        Field(description="An option of a metric, such as kid.subsets=50; repeat for several."),
        Flag(METRICS, ("--set",), "METRIC.OPTION=VALUE", list[str]),
    ] = ()
    reference: Annotated[
        Path | None, Field(description="An .npz file with statistics of real images."), Flag(REFERENCE, metavar="FILE")
    ] = None
    reference_num: Annotated[
        int | None,
        Field(ge=2, description="Number of real images, drawn at random."),
        Flag(REFERENCE, default=PROTOCOLS),
    ] = None
    resize_filter: Annotated[
        ResizeFilter | None,
        Field(description="Filter for real images that have another size than the model's."),
        Flag(REFERENCE, default="the run's, or lanczos"),
    ] = None
    save_reference: Annotated[
        Path | None, Field(description="Write the statistics of the real images."), Flag(REFERENCE, metavar="FILE")
    ] = None
    no_cache: Annotated[bool, Field(description="Compute the statistics of the real images anew."), Flag(REFERENCE)] = (
        False
    )
    seed: Annotated[
        int, Field(ge=0, description="Seed of the first image; the others count up."), Flag(IMAGES, metavar="N")
    ] = 0
    quantisation: Annotated[
        Quantisation | None, Field(description="How images become bytes."), Flag(IMAGES, default=PROTOCOLS)
    ] = None
    truncation_psi: Annotated[
        float | None,
        Field(description="Truncation; 1 for none."),
        Flag(IMAGES, ("--truncation-psi", "--truncation"), default=PROTOCOLS),
    ] = None
    truncation_cutoff: Annotated[
        int | None, Field(ge=0, description="Number of style vectors truncated."), Flag(IMAGES, default="all")
    ] = None
    noise: Annotated[
        Literal["const", "random", "none"] | None,
        Field(description="Noise of layers that have any."),
        Flag(IMAGES, default=PROTOCOLS),
    ] = None
    labels: Annotated[
        Labels | None,
        Field(description="Classes of generated images: as in the data, drawn uniformly, or in turn."),
        Flag(CONDITION, default=PROTOCOLS),
    ] = None
    allow_external: Annotated[
        bool, Field(description="Open files and download weights that the model file names."), Flag(CONDITION)
    ] = False
    batch_size: Annotated[
        int | None, Field(ge=1, description="Images per batch."), Flag(HARDWARE, default="chosen by resolution")
    ] = None
    precision: Annotated[Precision, Field(description="Precision of the synthesis."), Flag(HARDWARE)] = "fp32"
    device: Annotated[
        str | None, Field(description="Such as cpu or cuda."), Flag(HARDWARE, default="the accelerator")
    ] = None
    command: str = ""
