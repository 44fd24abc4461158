"""A GAN in one document: both networks, losses, regularizers, augmentation, optimisers and averaging.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import nn

from assemblies.discriminator import Discriminator, LayeredDiscriminator
from assemblies.generator import Generator, LayeredGenerator
from assemblies.survey import Survey
from blocks.families import Augment, Loss, Regularizer
from registry import Block, Misfit, Problem, Slot, Spec, collecting, misfit

Beta = Annotated[float, Field(ge=0, lt=1)]


class Adam(BaseModel):
    """The Adam optimiser of one network; with a lazy regularizer the trainer corrects it as StyleGAN2 does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr: Annotated[PositiveFloat, Field(description="Learning rate.")] = 0.002
    betas: Annotated[tuple[Beta, Beta], Field(description="Decay of the first and of the second moment.")] = (0.0, 0.99)
    eps: Annotated[PositiveFloat, Field(description="Added to the root of the second moment.")] = 1e-8
    decay_kimg: Annotated[
        float, Field(ge=0, description="The last thousands of images, over which the rate falls linearly to 0.")
    ] = 0.0


class EMA(BaseModel):
    """The moving average of the generator's weights that samples are drawn with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_life_kimg: Annotated[
        float, Field(ge=0, description="Thousands of images after which a weight counts half.")
    ] = 10.0
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
        generator_optimizer: Adam of the generator.
        discriminator_optimizer: Adam of the discriminator.
        ema: Averaging of the generator's weights.
        batch_size: Images in a training step.
        kimg: Length of the training, in thousands of real images shown.
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
        generator_optimizer: Adam = Adam(),  # noqa: B008 (frozen)
        discriminator_optimizer: Adam = Adam(),  # noqa: B008
        ema: EMA = EMA(),  # noqa: B008
        batch_size: PositiveInt = 32,
        kimg: PositiveFloat = 1000.0,
        plugins: dict[str, str] = {},  # noqa: B006 (pydantic copies it)
    ) -> None:
        super().__init__()
        problems = [
            problem for survey in survey_networks(generator, discriminator).values() for problem in survey.problems
        ]
        if problems:
            raise Misfit(problems)
        self.generator: Generator = self.fill("generator", generator)
        wiring = {name: getattr(self.generator, name) for name in ("resolution", "image_channels", "cond_dim")}
        self.discriminator: Discriminator = self.fill("discriminator", discriminator, **wiring)
        self.loss: Loss = self.fill("loss", loss)
        self.regularizers = nn.ModuleList(self.fill(f"regularizers.{i}", each) for i, each in enumerate(regularizers))
        self.augment: Augment | None = self.fill("augment", augment)


def survey_networks(generator: Any, discriminator: Any) -> dict[str, Survey]:
    """A look at both networks; the discriminator is looked at only where the generator's image is known."""
    of_generator = generator.block.survey(generator)
    found = {"generator": _under("generator", of_generator)}
    if of_generator.image is not None and of_generator.complete:
        channels, *resolution = of_generator.image
        of_discriminator = discriminator.block.survey(
            discriminator, tuple(resolution), channels, getattr(generator, "cond_dim", 0)
        )
        found["discriminator"] = _under("discriminator", of_discriminator)
    return found


def check(
    spec: Spec, *, resolution: tuple[int, int] | None = None, image_channels: int = 3, subject: str = ""
) -> dict[str, Survey]:
    """Everything that can be known of a GAN, a generator or a discriminator before memory is spent.

    Args:
        spec: What to look at.
        resolution: Height and width of the images, where a discriminator stands alone.
        image_channels: Channels of the images, where a discriminator stands alone.
        subject: What an error calls the spec, such as its file's name.

    Returns:
        A survey of each network, by name.

    Raises:
        Misfit: All misfits, with their paths.
    """
    if issubclass(spec.block, GAN):
        found = survey_networks(spec.generator, spec.discriminator)
        problems = [problem for survey in found.values() for problem in survey.problems]
        problems += _misfits_of_parts(spec)
    elif issubclass(spec.block, Generator):
        found = {"generator": spec.block.survey(spec)}
        problems = list(found["generator"].problems)
    elif issubclass(spec.block, Discriminator):
        if resolution is None:
            said = "a discriminator alone does not know its images: give their resolution, e.g. --resolution 64"
            raise misfit((), said)
        found = {"discriminator": spec.block.survey(spec, resolution, image_channels, 0)}
        problems = list(found["discriminator"].problems)
    else:
        said = f"{spec.kind} is a {spec.block.family_name}; a gan, generator or discriminator goes here"
        raise misfit("kind", said)
    if problems:
        raise Misfit(problems, subject)
    return found


def _misfits_of_parts(spec: Spec) -> list[Problem]:
    """The parts of a GAN that are not networks see no shapes; they only have to build."""
    parts: list[tuple[tuple[str | int, ...], Spec | None]] = [(("loss",), spec.loss), (("augment",), spec.augment)]
    parts += [(("regularizers", i), each) for i, each in enumerate(spec.regularizers)]
    problems: list[Problem] = []
    with torch.device("meta"), collecting():
        for path, part in parts:
            try:
                if part is not None:
                    part.build()
            except Misfit as error:
                problems.extend(problem.under(*path) for problem in error.problems)
    return problems


def _under(name: str, survey: Survey) -> Survey:
    steps = tuple(step._replace(path=(name, *step.path)) for step in survey.steps)
    return survey._replace(steps=steps, problems=tuple(problem.under(name) for problem in survey.problems))
