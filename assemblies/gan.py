"""A GAN in one document: both networks, losses, regularizers, augmentation, optimisers and averaging.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import nn

from assemblies.discriminator import Discriminator, LayeredDiscriminator
from assemblies.generator import Generator, LayeredGenerator, cond_dim_of
from assemblies.trace import Trace
from assemblies.trainable import Trainable, TrainableParts
from blocks.families import Augment, Loss, Probability, Regularizer
from registry import Block, IncompatibleError, Problem, Slot, Spec, collecting, incompatible

Beta = Annotated[float, Field(ge=0, lt=1)]
ResizeFilter = Literal["lanczos", "bicubic", "bilinear", "box"]


class Adam(BaseModel):
    """The Adam optimiser of one network; with a lazy regularizer the trainer corrects it as StyleGAN2 does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr: Annotated[PositiveFloat, Field(description="Trainable rate.")] = 0.002
    betas: Annotated[tuple[Beta, Beta], Field(description="Decay of the first and of the second moment.")] = (0.0, 0.99)
    eps: Annotated[PositiveFloat, Field(description="Added to the root of the second moment.")] = 1e-8
    warmup_kimg: Annotated[
        float, Field(ge=0, description="The first thousands of images, over which the rate rises linearly from 0.")
    ] = 0.0
    decay_kimg: Annotated[
        float, Field(ge=0, description="The last thousands of images, over which the rate falls linearly to 0.")
    ] = 0.0
    clip_norm: Annotated[
        PositiveFloat | None,
        Field(description="Longest gradient, of all weights together, in steps of the main loss; longer ones shrink."),
    ] = None


class EMA(BaseModel):
    """The moving average of the generator's weights that samples are drawn with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_life_kimg: Annotated[
        float, Field(ge=0, description="Thousands of images after which a weight counts half.")
    ] = 10.0
    start_kimg: Annotated[
        float, Field(ge=0, description="Thousands of images up to which weights are copied instead of averaged.")
    ] = 0.0
    ramp_up: Annotated[
        float | None,
        Field(ge=0, description="The half-life is at most this fraction of the images seen; None: no ramp."),
    ] = 0.05


class GAN(Block, nn.Module, family="gan", kind="gan"):
    """A generator and a discriminator with everything that their training needs.

    Args:
        generator: Makes the images.
        discriminator: Judges them; it takes their size and channels from the generator.
        loss: The adversarial loss of both sides.
        regularizers: Terms beside the loss, each for one side.
        augment: What real and generated images pass through before the discriminator sees them.
        style_mixing: How often, in training, the images of a batch take their styles from some place on from a second
            latent.
        freeze_d: How many of the discriminator's steps, from the image on, keep their weights, as in Freeze-D.
        trainable: Which parts of the generator learn; or a phase by name: all, freeze64, text-encoder.
        generator_optimizer: Adam of the generator.
        discriminator_optimizer: Adam of the discriminator.
        ema: Averaging of the generator's weights.
        batch_size: Images per training step.
        kimg: Length of the training, in thousands of real images.
        flip: Whether half of the real images are mirrored, others in each epoch.
        resize_filter: Resampling filter for images that have another size than the model's.
        plugins: Packages and versions that the document was made with: written when it is saved, told by errors.
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
        freeze_d: NonNegativeInt = 0,
        trainable: TrainableParts = Trainable(),  # noqa: B008 (frozen)
        generator_optimizer: Adam = Adam(),  # noqa: B008
        discriminator_optimizer: Adam = Adam(),  # noqa: B008
        ema: EMA = EMA(),  # noqa: B008
        batch_size: PositiveInt = 32,
        kimg: PositiveFloat = 1000.0,
        flip: bool = False,
        resize_filter: ResizeFilter = "lanczos",
        plugins: dict[str, str] = {},  # noqa: B006 (pydantic copies it)
    ) -> None:
        super().__init__()
        traces = trace_networks(generator, discriminator)
        problems = [problem for trace in traces.values() for problem in trace.problems]
        problems += _training_problems(style_mixing, freeze_d, traces)
        problems += trainable.problems_with(generator)  # type: ignore[arg-type]
        if problems:
            raise IncompatibleError(problems)
        self.generator: Generator = self.fill("generator", generator)
        trainable.apply(self.generator)
        context = {name: getattr(self.generator, name) for name in ("resolution", "image_channels", "cond_dim")}
        self.discriminator: Discriminator = self.fill("discriminator", discriminator, **context)
        self.discriminator.freeze(freeze_d)
        self.loss: Loss = self.fill("loss", loss)
        told = {"cond_dim": self.generator.cond_dim}
        self.regularizers = nn.ModuleList(
            self.fill(f"regularizers.{i}", each, **told) for i, each in enumerate(regularizers)
        )
        self.augment: Augment | None = self.fill("augment", augment)


def trace_networks(generator: Any, discriminator: Any) -> dict[str, Trace]:
    """A look at both networks; the discriminator is looked at only where the generator's image is known."""
    of_generator = generator.block.trace(generator)
    found = {"generator": _under("generator", of_generator)}
    known = not any(problem.path[:1] in (("condition",), ("cond_dim",)) for problem in of_generator.problems)
    if of_generator.image is not None and of_generator.complete and known:
        channels, *resolution = of_generator.image
        of_discriminator = discriminator.block.trace(discriminator, tuple(resolution), channels, cond_dim_of(generator))
        found["discriminator"] = _under("discriminator", of_discriminator)
    return found


def check(
    spec: Spec, *, resolution: tuple[int, int] | None = None, image_channels: int = 3, subject: str = ""
) -> dict[str, Trace]:
    """Everything that can be known of a GAN, a generator, a discriminator or a recipe before memory is spent.

    Args:
        spec: What to look at.
        resolution: Height and width of the images, where a discriminator stands alone.
        image_channels: Channels of the images, where a discriminator stands alone.
        subject: What an error calls the spec, such as its file's name.

    Returns:
        A survey of each network, by name; in a recipe after its stage's, as in `first.generator`.

    Raises:
        IncompatibleError: All misfits, with their paths.
    """
    problems: list[Problem]
    if issubclass(spec.block, GAN):
        found = trace_networks(spec.generator, spec.discriminator)
        problems = [problem for trace in found.values() for problem in trace.problems]
        problems += _training_problems(spec.style_mixing, spec.freeze_d, found)
        problems += spec.trainable.problems_with(spec.generator)
        problems += _part_problems(spec)
    elif issubclass(spec.block, Generator):
        found = {"generator": spec.block.trace(spec)}
        problems = list(found["generator"].problems)
    elif issubclass(spec.block, Discriminator):
        if resolution is None:
            said = "a discriminator alone does not know its images: give their resolution, e.g. --resolution 64"
            raise incompatible((), said)
        found = {"discriminator": spec.block.trace(spec, resolution, image_channels, 0)}
        problems = list(found["discriminator"].problems)
    elif spec.block.family_name == "multi-stage":
        found, problems = spec.block.look(spec)  # type: ignore[attr-defined]
    else:
        said = f"{spec.kind} is a {spec.block.family_name}; a gan, multi-stage, generator or discriminator goes here"
        raise incompatible("kind", said)
    if problems:
        raise IncompatibleError(problems, subject)
    return found


def _training_problems(style_mixing: float, freeze_d: int, traces: Mapping[str, Trace]) -> list[Problem]:
    """Options of the training that these networks cannot serve."""
    problems = []
    known = [step.context["num_styles"] for step in traces["generator"].steps if "num_styles" in step.context]
    if style_mixing and known and known[0] < 2:
        problems.append(Problem(("style_mixing",), "the generator has 1 style vector, so nothing can be mixed; take 0"))
    judging = traces.get("discriminator")
    if freeze_d and judging is not None and judging.complete and freeze_d >= len(judging.steps):
        fact = f"the discriminator has {len(judging.steps)} steps and has to learn with one at least"
        problems.append(Problem(("freeze_d",), f"{fact}; at most {len(judging.steps) - 1} can be frozen"))
    return problems


def _part_problems(spec: Spec) -> list[Problem]:
    """The parts of a GAN that are not networks see no shapes; they only have to build."""
    try:
        told = {"cond_dim": cond_dim_of(spec.generator)}
    except IncompatibleError:  # told of already
        return []
    parts: list[tuple[tuple[str | int, ...], Spec | None]] = [(("loss",), spec.loss), (("augment",), spec.augment)]
    parts += [(("regularizers", i), each) for i, each in enumerate(spec.regularizers)]
    problems: list[Problem] = []
    with torch.device("meta"), collecting():
        for path, part in parts:
            try:
                if part is not None:
                    part.build(**told)
            except IncompatibleError as error:
                problems.extend(problem.under(*path) for problem in error.problems)
    return problems


def _under(name: str, trace: Trace) -> Trace:
    steps = tuple(step._replace(path=(name, *step.path)) for step in trace.steps)
    return trace._replace(steps=steps, problems=tuple(problem.under(name) for problem in trace.problems))
