"""A GAN as one document: both networks, losses, regularizers, augmentation, optimizers and averaging.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import nn

from assemblies.condition import cond_dim_of, condition_spec, num_tokens_of
from assemblies.discriminator import Discriminator, LayeredDiscriminator, discriminator_context
from assemblies.generator import Generator, LayeredGenerator
from assemblies.limits import check_shapes
from assemblies.trace import Trace, build_on_meta
from assemblies.training_options import EMA, Adam, Checkpoint, CheckpointLists, Keep, Trainable, TrainableParts
from blocks.families import (
    Augment,
    ImageHead,
    Loss,
    Metric,
    Probability,
    Projector,
    Regularizer,
)
from registry import Block, IncompatibleError, Problem, Slot, Spec, collecting, incompatible

ResizeFilter = Literal["lanczos", "bicubic", "bilinear", "box"]


class GAN(Block, nn.Module, family="gan", kind="gan"):
    """A generator and a discriminator with everything that their training needs.

    Args:
        generator: Generates the images.
        discriminator: Scores them; their size and channels come from the generator.
        loss: The adversarial loss of both networks.
        regularizers: Terms added to the loss, each of one network.
        augment: Augmentation of real and generated images before the discriminator.
        style_mixing: Probability, in training, that the images of a batch take their styles from a random layer on from
            a second latent.
        same_latents: Whether the generator's step has the latents of the discriminator's step, as in GAT's code; it
            draws new ones otherwise.
        freeze_d: Number of the discriminator's steps, from the image on, that are frozen, as in Freeze-D.
        trainable: The trained parts of the generator; or a phase by name: all, freeze64, text-encoder.
        generator_optimizer: Adam of the generator.
        discriminator_optimizer: Adam of the discriminator.
        ema: Averaging of the generator's weights.
        checkpoint: Activation checkpointing: lists of steps whose activations the backward pass computes again; true
            for those of both networks.
        batch_size: Images per training step.
        kimg: Length of the training, in thousands of real images.
        flip: Whether half of the real images are mirrored, others in each epoch.
        resize_filter: Resampling filter for images that have another size than the model's.
        metrics: Measured during the training; the model that is best by the first one is kept.
        keep: Snapshots of the averaged generator that are kept during the training.
        plugins: Packages and versions that the document was made with; written when it is saved, shown by errors.
    """

    examples: ClassVar = (
        {
            "spec": {
                "generator": {"kind": "layered", **LayeredGenerator.examples[0]["spec"]},
                "discriminator": {"kind": "layered", **LayeredDiscriminator.examples[0]["spec"]},
                "regularizers": ["r1"],
                "augment": "diffaugment",
            }
        },
    )

    def __init__(
        self,
        *,
        generator: Slot[Generator],
        discriminator: Slot[Discriminator],
        loss: Slot[Loss] = "non-saturating",
        regularizers: tuple[Slot[Regularizer], ...] = (),
        augment: Slot[Augment] | None = None,
        style_mixing: Probability = 0.0,
        same_latents: bool = False,
        freeze_d: NonNegativeInt = 0,
        trainable: TrainableParts = Trainable(),  # noqa: B008 (frozen)
        generator_optimizer: Adam = Adam(),  # noqa: B008
        discriminator_optimizer: Adam = Adam(),  # noqa: B008
        ema: EMA = EMA(),  # noqa: B008
        checkpoint: CheckpointLists = Checkpoint(),  # noqa: B008
        batch_size: PositiveInt = 32,
        kimg: PositiveFloat = 1000.0,
        flip: bool = False,
        resize_filter: ResizeFilter = "lanczos",
        metrics: tuple[Slot[Metric], ...] = (),
        keep: Keep = Keep(),  # noqa: B008
        plugins: dict[str, str] = {},  # noqa: B006 (pydantic copies it)
    ) -> None:
        super().__init__()
        traces = trace_networks(generator, discriminator)
        if problems := _problems(generator, discriminator, style_mixing, freeze_d, trainable, checkpoint, traces):
            raise IncompatibleError(problems)
        self.generator: Generator = self.fill("generator", generator)
        trainable.apply(self.generator)
        context = discriminator_context(self.generator)
        self.discriminator: Discriminator = self.fill("discriminator", discriminator, **context)
        self.discriminator.freeze(freeze_d)
        checkpoint.apply(self.generator, self.discriminator)
        self.loss: Loss = self.fill("loss", loss)
        self.regularizers = nn.ModuleList(
            self.fill(f"regularizers.{index}", regularizer, **_regularizer_context(generator, discriminator, traces))
            for index, regularizer in enumerate(regularizers)
        )
        self.augment: Augment | None = self.fill("augment", augment)


def trace_networks(generator: Any, discriminator: Any) -> dict[str, Trace]:
    """Traces of both networks; the discriminator's only where the shapes of image and condition are known."""
    trace = generator.block.trace(generator)
    traces = {"generator": _under("generator", trace)}
    cond_dim_known = not any(problem.path[:1] in (("condition",), ("cond_dim",)) for problem in trace.problems)
    if trace.image is not None and trace.complete and cond_dim_known:
        channels, *resolution = trace.image
        condition = (cond_dim_of(generator), num_tokens_of(generator))
        trace = discriminator.block.trace(discriminator, tuple(resolution), channels, *condition)
        traces["discriminator"] = _under("discriminator", trace)
    return traces


def check(
    spec: Spec,
    *,
    resolution: tuple[int, int] | None = None,
    image_channels: int = 3,
    cond_dim: int = 0,
    num_tokens: int = 0,
    subject: str = "",
) -> dict[str, Trace]:
    """Everything that can be known of a GAN, a generator, a discriminator or a multi-stage training before it is built.

    Args:
        spec: The document.
        resolution: Height and width of the images, for a discriminator alone.
        image_channels: Channels of the images, for a discriminator alone.
        cond_dim: Features of the condition, for a discriminator alone.
        num_tokens: Tokens in the condition, for a discriminator alone.
        subject: Name of the spec in errors, such as its file's name.

    Returns:
        A trace of each network by name; in a multi-stage training after its stage's name, as in `first.generator`.

    Raises:
        IncompatibleError: All problems, with their paths.
    """
    problems: list[Problem]
    if issubclass(spec.block, GAN):
        traces = trace_networks(spec.generator, spec.discriminator)
        options = (spec.style_mixing, spec.freeze_d, spec.trainable, spec.checkpoint)
        problems = _problems(spec.generator, spec.discriminator, *options, traces) + _part_problems(spec, traces)
    elif issubclass(spec.block, Generator):
        traces = {"generator": spec.block.trace(spec)}
        problems = list(traces["generator"].problems)
    elif issubclass(spec.block, Discriminator):
        if resolution is None:
            raise incompatible((), "a discriminator alone has no image size: pass the resolution, e.g. --resolution 64")
        check_shapes((), image=(image_channels, *resolution))
        traces = {"discriminator": spec.block.trace(spec, resolution, image_channels, cond_dim, num_tokens)}
        problems = list(traces["discriminator"].problems)
    elif spec.block.family_name == "multi-stage":
        traces, problems = spec.block.trace_stages(spec)  # type: ignore[attr-defined]
    else:
        fact = f"{spec.kind} is a {spec.block.family_name}; use a gan, multi-stage, generator or discriminator"
        raise incompatible("kind", fact)
    if problems:
        raise IncompatibleError(problems, subject)
    return traces


def _problems(
    generator: Any,
    discriminator: Any,
    style_mixing: float,
    freeze_d: int,
    trainable: Trainable,
    checkpoint: Checkpoint,
    traces: Mapping[str, Trace],
) -> list[Problem]:
    """Problems of both networks, and training options that they do not support."""
    problems = [problem for trace in traces.values() for problem in trace.problems]
    num_styles = [step.context["num_styles"] for step in traces["generator"].steps if "num_styles" in step.context]
    if style_mixing and num_styles and num_styles[0] < 2:
        problems.append(Problem(("style_mixing",), "the generator has 1 style vector, and mixing needs 2; use 0"))
    trace = traces.get("discriminator")
    problems += _level_problems(generator, discriminator, traces["generator"])
    if freeze_d and trace is not None and trace.complete:
        limit = discriminator.block.max_frozen(trace)
        if not limit:
            fact = f"a discriminator of kind {discriminator.kind} cannot be frozen in part; use 0"
            problems.append(Problem(("freeze_d",), fact))
        elif freeze_d > limit:
            fact = f"the discriminator has {len(trace.steps)} steps, and at least one is trained; use at most {limit}"
            problems.append(Problem(("freeze_d",), fact))
    return problems + trainable.problems_with(generator) + checkpoint.problems_with(generator, discriminator)


def _level_problems(generator: Any, discriminator: Any, trace: Trace) -> list[Problem]:
    """Problems of a generator of several levels whose discriminator takes another number of them."""
    if not getattr(generator, "multi_level", False) or not trace.complete:
        return []
    made = sum(issubclass(step.spec.block, ImageHead) for step in trace.steps)
    taken = next((step.num_levels for step in getattr(discriminator, "steps", ()) if hasattr(step, "num_levels")), 1)
    if taken == made:
        return []
    cure = f"set num_levels of noised-levels to {made}" if taken > 1 else "begin it with noised-levels"
    fact = f"images have {made} levels in training, and the discriminator takes {taken}; {cure}, or set it to false"
    return [Problem(("generator", "multi_level"), fact)]


def _regularizer_context(generator: Any, discriminator: Any, traces: Mapping[str, Trace]) -> dict[str, Any]:
    trace = traces["generator"]
    num_styles = sum(step.num_styles for step in trace.steps) if trace.complete else None
    steps = getattr(discriminator, "steps", ())
    return {
        "cond_dim": cond_dim_of(generator),
        "num_tokens": num_tokens_of(generator),
        "condition": condition_spec(generator),
        "num_styles": num_styles,
        "has_features": hasattr(discriminator.block, "features"),
        "token_dim": next((step.dim for step in steps if issubclass(step.block, Projector)), 0),
    }


def _part_problems(spec: Spec, traces: Mapping[str, Trace]) -> list[Problem]:
    """Problems of the loss, the augmentation and the regularizers, which are built on the meta device."""
    try:
        context = _regularizer_context(spec.generator, spec.discriminator, traces)
    except IncompatibleError:  # the generator's trace reports it
        return []
    parts: list[tuple[tuple[str | int, ...], Spec | None]] = [(("loss",), spec.loss), (("augment",), spec.augment)]
    parts += [(("regularizers", index), regularizer) for index, regularizer in enumerate(spec.regularizers)]
    problems: list[Problem] = []
    with torch.device("meta"), collecting():
        for path, part in parts:
            try:
                if part is not None:
                    build_on_meta(path, part, context)
            except IncompatibleError as error:
                problems.extend(error.problems)
    return problems


def _under(name: str, trace: Trace) -> Trace:
    steps = tuple(step._replace(path=(name, *step.path)) for step in trace.steps)
    return trace._replace(steps=steps, problems=tuple(problem.under(name) for problem in trace.problems))
