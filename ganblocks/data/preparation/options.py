"""The options of `ganblocks data prepare`: the only place where they are declared."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ganblocks.options import Flag, Options, ResizeFilter

IMAGES, FILES = "Images", "Files"
MANIFEST = "manifest.json"


class PrepareOptions(Options):
    """How a data set is converted."""

    resolution: Annotated[
        int, Field(ge=1, le=65536, description="Side of the images in pixels."), Flag(IMAGES, metavar="N")
    ] = 256
    image_channels: Annotated[
        Literal[1, 3, 4],
        Field(description="1 for grey, 3 for RGB, 4 for RGBA."),
        Flag(IMAGES, ("--channels",), "N", int),
    ] = 3
    resize_filter: Annotated[ResizeFilter, Field(description="Filter for resizing."), Flag(IMAGES)] = "lanczos"
    crop: Annotated[
        Literal["center", "pad"],
        Field(description="center: images cover the square and are cropped; pad: they fit into it, on white."),
        Flag(IMAGES),
    ] = "center"
    image_format: Annotated[
        Literal["png", "jpeg", "webp"],
        Field(description="png and webp keep all values; jpeg has quality 95 without chroma subsampling."),
        Flag(FILES),
    ] = "png"
    num_shards: Annotated[
        int,
        Field(ge=1, le=100_000, description="Files of the training split."),
        Flag(FILES, ("--shards",), "N"),
    ] = 16
    holdout: Annotated[
        float,
        Field(ge=0, lt=1, description="Share of the images that is held out, by a hash of their path."),
        Flag(FILES, metavar="X"),
    ] = 0.0
    workers: Annotated[
        int | None,
        Field(ge=1, description="Processes."),
        Flag(FILES, metavar="N", default="one per processor"),
    ] = None
