"""R3GAN's networks as lists of steps.

R3GAN, Huang et al. 2024, https://arxiv.org/abs/2501.05441, section 3. The functions that take `args` take the
reference's constructor arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from assemblies.discriminator import LayeredDiscriminator
from assemblies.generator import LayeredGenerator
from assemblies.models.options import Options
from registry import Spec

Step = dict[str, Any]
Stage = dict[str, Step]
FIRST = 4  # pixels


def low_pass(taps: list[float]) -> list[float]:
    """The filter of the resampling layers: the reference's, by default [1,2,1], convolved with [1,1]."""
    return [float(tap) for tap in np.convolve(taps, [1, 1])]


def blocks(args: Options, stage: int) -> list[Step]:
    """The residual blocks of a stage."""
    block = {
        "kind": "resnext",
        "num_groups": args["CardinalityPerStage"][stage],
        "expansion": args["ExpansionFactor"],
        "kernel_size": args["KernelSize"],
        "num_blocks": sum(args["BlocksPerStage"]),
    }
    return [block] * args["BlocksPerStage"][stage]


def generator_stages(args: Options) -> Iterator[list[tuple[str, Step]]]:
    """The stages of a generator, from 4 px upwards: (name of the layer in the reference's stage, step)."""
    widths = args["WidthPerStage"]
    for stage, width in enumerate(widths):
        if stage == 0:
            steps = [("0", {"kind": "generative-basis", "dim": width, "resolution": FIRST})]
        else:
            up = {"kind": "upsample", "taps": low_pass(args["ResamplingFilter"])}
            steps = [("0.LinearLayer.Layer", {"kind": "pointwise", "dim": width})] * (width != widths[stage - 1])
            steps = [*steps, ("0.Resampler", up)]
        yield [*steps, *((str(index + 1), block) for index, block in enumerate(blocks(args, stage)))]


def discriminator_stages(args: Options) -> Iterator[list[tuple[str, Step]]]:
    """The stages of a discriminator, from the full resolution to 4 px; see `generator_stages`."""
    widths = args["WidthPerStage"]
    for stage, width in enumerate(widths):
        steps = [(str(index), block) for index, block in enumerate(blocks(args, stage))]
        last = len(steps)
        if stage + 1 < len(widths):
            steps.append((f"{last}.Resampler", {"kind": "downsample", "taps": low_pass(args["ResamplingFilter"])}))
            if widths[stage + 1] != width:
                steps.append((f"{last}.LinearLayer.Layer", {"kind": "pointwise", "dim": widths[stage + 1]}))
        else:
            embed_dim = args["ConditionEmbeddingDimension"] if args["ConditionDimension"] else None
            steps.append((str(last), {"kind": "discriminative-basis", "embed_dim": embed_dim}))
        yield steps


def generator_steps(args: Options) -> list[tuple[str, Step]]:
    """All steps of a generator, each with its name in the reference."""
    stages = enumerate(generator_stages(args))
    steps = [(f"MainLayers.{number}.Layers.{name}", step) for number, stage in stages for name, step in stage]
    return [*steps, ("AggregationLayer.Layer", {"kind": "linear-to-rgb"})]


def discriminator_steps(args: Options) -> list[tuple[str, Step]]:
    """All steps of a discriminator, each with its name in the reference."""
    stages = enumerate(discriminator_stages(args))
    first = ("ExtractionLayer.Layer", {"kind": "linear-from-rgb", "dim": args["WidthPerStage"][0]})
    return [first, *((f"MainLayers.{number}.Layers.{name}", step) for number, stage in stages for name, step in stage)]


def generator_spec(args: Options) -> Spec:
    """The generator of the reference's arguments."""
    z_dim, num_classes = args["NoiseDimension"], args["ConditionDimension"] or 0
    embed_dim = args["ConditionEmbeddingDimension"] if num_classes else 0
    return LayeredGenerator.Spec(
        z_dim=z_dim,
        w_dim=z_dim + embed_dim,
        cond_dim=num_classes,
        mapping={"kind": "no-mapping"} | ({"embed_dim": embed_dim} if embed_dim else {}),
        synthesis=[step for _, step in generator_steps(args)],
    )


def discriminator_spec(args: Options) -> Spec:
    """The discriminator of the reference's arguments."""
    return LayeredDiscriminator.Spec(steps=[step for _, step in discriminator_steps(args)])


def discriminator_context(args: Options) -> dict[str, Any]:
    """The arguments that a discriminator is built with beside its spec."""
    side = FIRST * 2 ** (len(args["WidthPerStage"]) - 1)
    return {"resolution": (side, side), "image_channels": 3, "cond_dim": args["ConditionDimension"] or 0}
