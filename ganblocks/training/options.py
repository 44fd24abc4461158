"""The options of a training that its document does not hold: the only place where they are declared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ganblocks.options import Flag, Options

DATA, LENGTH, OPTIMISATION, OUTPUT, HARDWARE = "Data", "Length", "Optimisation", "Output", "Hardware"


class TrainOptions(Options):
    """Options of `ganblocks train` and `ganblocks.train`."""

    flip: Annotated[
        bool | None, Field(description="Mirror half of the images."), Flag(DATA, default="the document's")
    ] = None
    resize_filter: Annotated[
        Literal["lanczos", "bicubic", "bilinear", "box"] | None,
        Field(description="Filter that resizes images."),
        Flag(DATA, default="the document's"),
    ] = None
    workers: Annotated[
        int, Field(ge=0, description="Processes that decode images which do not fit into memory."), Flag(DATA)
    ] = 2
    kimg: Annotated[
        float | None, Field(ge=0, description="Length in thousands of images."), Flag(LENGTH, default="the document's")
    ] = None
    resume: Annotated[bool, Field(description="Continue the run in --out."), Flag(LENGTH)] = False
    batch_size: Annotated[
        int | None,
        Field(ge=1, description="Images per step, over all processes."),
        Flag(OPTIMISATION, default="the document's"),
    ] = None
    seed: Annotated[int | None, Field(ge=0, description="Random seed."), Flag(OPTIMISATION, default="0")] = None
    init_generator: Annotated[
        Path | None,
        Field(description="Run or model file that initialises the generator."),
        Flag(OPTIMISATION, metavar="RUN_OR_MODEL"),
    ] = None
    init_discriminator: Annotated[
        Path | None,
        Field(description="Run or model file that initialises the discriminator."),
        Flag(OPTIMISATION, metavar="RUN_OR_MODEL"),
    ] = None
    log_every_kimg: Annotated[
        float, Field(gt=0, description="Thousands of images between log lines and samples."), Flag(OUTPUT)
    ] = 4.0
    save_every_seconds: Annotated[
        float, Field(ge=0, description="Seconds between checkpoints; they are written with a log line."), Flag(OUTPUT)
    ] = 60.0
    quiet: Annotated[bool, Field(description="Print nothing."), Flag(OUTPUT)] = False
    device: Annotated[
        str | None,
        Field(description="Such as cpu or cuda:1."),
        Flag(HARDWARE, default="an accelerator if there is one"),
    ] = None
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"], Field(description="Mixed precision; fp16 needs a GPU."), Flag(HARDWARE)
    ] = "fp32"
    command: Annotated[str, Field(description="Command line, for the log and the files' metadata.")] = ""
