"""R3GAN's checkpoints: recognition, options and weight rules.

The files are pickles of whole networks. Their classes do not store the sizes, which follow from the tensors' shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from assemblies.conversion.importer import Conversion, Importer, Names, count
from assemblies.conversion.weight_map import WeightRule, rule
from assemblies.models.options import Options
from assemblies.models.r3gan.architecture import (
    discriminator_context,
    discriminator_spec,
    discriminator_steps,
    generator_spec,
    generator_steps,
)

WRAPPER = "Model."  # the networks are inside a module that keeps their sizes
PLAIN_FILTER = [1.0, 2.0, 1.0]


def is_generator(names: Names) -> bool:
    return bool({f"{prefix}AggregationLayer.Layer.weight" for prefix in ("", WRAPPER)} & names)


def is_discriminator(names: Names) -> bool:
    return bool({f"{prefix}ExtractionLayer.Layer.weight" for prefix in ("", WRAPPER)} & names)


def convert_generator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    tensors = unwrapped(tensors)
    options = sizes(tensors, first_block=1)
    embedding = tensors.get("EmbeddingLayer.weight")
    inputs = tensors["MainLayers.0.Layers.0.LinearLayer.weight"].shape[1]
    options["NoiseDimension"] = inputs - (0 if embedding is None else embedding.shape[0])
    return Conversion(generator_spec(options), generator_rules(options), tensors, is_kernel)


def convert_discriminator(tensors: Mapping[str, Tensor], args: Mapping[str, Any]) -> Conversion:
    tensors = unwrapped(tensors)
    options = sizes(tensors, first_block=0)
    spec, context = discriminator_spec(options), discriminator_context(options)
    return Conversion(spec, discriminator_rules(options), tensors, is_kernel, context=context)


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the wrapper's prefix."""
    return {name.removeprefix(WRAPPER): value for name, value in tensors.items()}


def sizes(tensors: Mapping[str, Tensor], first_block: int) -> dict[str, Any]:
    """The reference's constructor arguments, from the shapes of the tensors.

    Args:
        tensors: The network's tensors.
        first_block: Index of the first residual block among the layers of a stage.
    """
    shape = {name: tuple(value.shape) for name, value in tensors.items()}
    block = f"MainLayers.{{}}.Layers.{first_block}.LinearLayer{{}}.Layer.weight"
    stages = range(count(shape, block.format("{}", 1)))
    widths = [shape[block.format(stage, 1)][1] for stage in stages]
    hidden, _, kernel_size, _ = shape[block.format(0, 2)]
    embedding = shape.get("EmbeddingLayer.weight")
    filters = [value for name, value in tensors.items() if is_kernel(name)]
    return {
        "WidthPerStage": widths,
        "CardinalityPerStage": [shape[block.format(s, 2)][0] // shape[block.format(s, 2)][1] for s in stages],
        "BlocksPerStage": [num_blocks(tensors, stage) for stage in stages],
        "ExpansionFactor": hidden // widths[0],
        "KernelSize": kernel_size,
        "ConditionDimension": embedding[1] if embedding else None,
        "ConditionEmbeddingDimension": embedding[0] if embedding else 0,
        "ResamplingFilter": reference_filter(filters[0]) if filters else PLAIN_FILTER,
    }


def num_blocks(tensors: Mapping[str, Tensor], stage: int) -> int:
    """The number of residual blocks of a stage."""
    start, end = f"MainLayers.{stage}.Layers.", ".LinearLayer1.Layer.weight"
    return sum(name.startswith(start) and name.endswith(end) for name in tensors)


def reference_filter(kernel: Tensor) -> list[float]:
    """The reference's filter f, from the kernel that the outer product of f convolved with [1,1] gives."""
    widened = kernel.double().sum(dim=0)
    taps = [0.0]
    for tap in widened.tolist()[:-1]:  # f[i] = widened[i] - f[i-1]
        taps.append(tap - taps[-1])
    if len(taps) == len(PLAIN_FILTER) + 1 and all(
        abs(8 * tap - plain) < 1e-3 for tap, plain in zip(taps[1:], PLAIN_FILTER, strict=True)
    ):
        return PLAIN_FILTER
    return taps[1:]


def generator_rules(args: Options) -> list[WeightRule]:
    """The generator's weight rules."""
    return list(step_rules("synthesis", generator_steps(args))) + embedding_rule("mapping.embed", args)


def discriminator_rules(args: Options) -> list[WeightRule]:
    """The discriminator's weight rules."""
    steps = discriminator_steps(args)
    return list(step_rules("steps", steps)) + embedding_rule(f"steps.{len(steps) - 1}.embed", args)


def embedding_rule(target: str, args: Options) -> list[WeightRule]:
    """The embedding of a condition."""
    return [rule(f"{target}.weight", "EmbeddingLayer.weight")] if args["ConditionDimension"] else []


def step_rules(prefix: str, steps: list[tuple[str, dict[str, Any]]]) -> Iterator[WeightRule]:
    """The weights of a list of steps, each with its name in the checkpoint."""
    for index, (source, step) in enumerate(steps):
        yield from block_rules(f"{prefix}.{index}", source, step["kind"])


def block_rules(target: str, source: str, kind: str) -> Iterator[WeightRule]:
    """The weights of one block."""
    if kind == "resnext":
        for number in (1, 2, 3):
            yield rule(f"{target}.conv{number}.weight", f"{source}.LinearLayer{number}.Layer.weight")
        for number in (1, 2):
            yield rule(f"{target}.activation{number}.bias", f"{source}.NonLinearity{number}.Bias")
    elif kind in ("pointwise", "linear-to-rgb", "linear-from-rgb"):
        yield rule(f"{target}.conv.weight", f"{source}.weight")
    elif kind == "generative-basis":
        yield rule(f"{target}.basis", f"{source}.Basis")
        yield rule(f"{target}.linear.weight", f"{source}.LinearLayer.weight")
    elif kind == "discriminative-basis":
        yield rule(f"{target}.basis", f"{source}.Basis.weight", convert=lambda weight: weight[:, 0])
        yield rule(f"{target}.linear.weight", f"{source}.LinearLayer.weight")


def is_kernel(name: str) -> bool:
    """Whether a tensor is a resampling filter, which is computed and not learned."""
    return name.endswith("Resampler.Kernel")


IMPORTERS = (
    Importer("r3gan generator", is_generator, convert_generator, {}),
    Importer("r3gan discriminator", is_discriminator, convert_discriminator, {}, ("D",)),
)
