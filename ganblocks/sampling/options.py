"""The options that all commands share which make images of a model: the only place where they are declared."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ganblocks.options import NUM_SEEDS, Flag, Options
from ganblocks.precision import Precision

IMAGES, CONDITION, HARDWARE, OUTPUT = "Images", "Condition", "Hardware", "Output"
MAX_NUMBERS, MAX_DIGITS = 1_000_000, 20
NUMBERS = re.compile(r"\d+\s*(-\s*\d*)?")  # a range may be wrong, but is no name


def parse_ranges(text: str) -> list[int]:
    """Numbers from text such as 0-15 or 1,5,8-10.

    Raises:
        ValueError: The text is not a list of ranges, a range is empty, or they have too many or too large numbers.
    """
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = (each.strip() for each in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError("should be written like 0-15 or 1,5,8-10")
        if max(len(first), len(last)) > MAX_DIGITS or (end := int(last or first)) >= NUM_SEEDS:
            raise ValueError("numbers have to be less than 2^64")
        if end < int(first):
            raise ValueError(f"range {part.strip()} is empty; write the smaller number first")
        if (count := len(numbers) + end + 1 - int(first)) > MAX_NUMBERS:
            raise ValueError(f"has {count:,} numbers or more; at most {MAX_NUMBERS:,} are possible")
        numbers += range(int(first), end + 1)
    return numbers


def parse_classes(text: str) -> list[int | str]:
    """Classes from text such as 3, 0-9 or cat,dog: numbers and ranges, and names without commas.

    Raises:
        ValueError: As `parse_ranges`, or a name is empty.
    """
    classes: list[int | str] = []
    for part in map(str.strip, text.split(",")):
        if not part:
            raise ValueError("should be written like 3, 0-9 or cat,dog")
        classes += parse_ranges(part) if NUMBERS.fullmatch(part) else [part]
    return classes


def _ranges(value: object) -> object:
    return tuple(parse_ranges(value)) if isinstance(value, str) else value


def _classes(value: object) -> object:
    return tuple(parse_classes(value)) if isinstance(value, str) else value


Ranges = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_ranges)]
Classes = Annotated[tuple[Annotated[int, Field(ge=0)] | str, ...], BeforeValidator(_classes)]


class SamplingOptions(Options):
    """Options of `ganblocks sample` and the other commands that make images."""

    truncation_psi: Annotated[
        float,
        Field(description="Truncation; values below 1 trade diversity for fidelity."),
        Flag(IMAGES, ("--truncation-psi", "--truncation")),
    ] = 1.0
    truncation_cutoff: Annotated[
        int | None, Field(ge=0, description="Number of style vectors truncated."), Flag(IMAGES, default="all")
    ] = None
    noise: Annotated[
        Literal["const", "random", "none"],
        Field(description="Noise of layers that have any; random noise depends on the seed."),
        Flag(IMAGES),
    ] = "const"
    classes: Annotated[
        Classes,
        Field(description="Classes, such as 3, 0-9 or cat,dog."),
        Flag(CONDITION, ("--class",), "CLASSES", str),
    ] = ()
    captions: Annotated[
        tuple[str, ...],
        Field(description="Text prompt; repeat for several."),
        Flag(CONDITION, ("--prompt", "--caption"), "TEXT", list[str]),
    ] = ()
    batch_size: Annotated[
        int | None, Field(ge=1, description="Images per batch."), Flag(HARDWARE, default="chosen by resolution")
    ] = None
    precision: Annotated[Precision, Field(description="fp32, tf32, bf16 or fp16 (on a GPU)."), Flag(HARDWARE)] = "fp32"
    device: Annotated[
        str | None, Field(description="Such as cpu or cuda:1."), Flag(HARDWARE, default="a GPU, if any")
    ] = None
    scale: Annotated[
        int | None,
        Field(ge=1, description="Enlarge each image so many times, without smoothing; 1 for not."),
        Flag(OUTPUT, default="to 512 px or more"),
    ] = None
    allow_external: Annotated[
        bool, Field(description="Open files and download weights that the model file names."), Flag(CONDITION)
    ] = False
    command: Annotated[str, Field(description="Command line, for the metadata of pictures.")] = ""

    def synthesis(self) -> dict[str, Any]:
        """The keyword arguments of `generate` for a generator of `load_optimized`, which has its precision."""
        names = ("truncation_psi", "truncation_cutoff", "noise", "batch_size")
        return {name: getattr(self, name) for name in names}
