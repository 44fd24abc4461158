"""Options of a GAN's training: optimizers, averages of the weights, snapshots, and which parts of G are trained.

The phases of StyleGAN-T's published training, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3: a model
of 64 pixels gets more layers, and all that it has is frozen except its image heads; then the text encoder alone is
tuned.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from pydantic_core import PydanticCustomError

from assemblies.discriminator import Discriminator
from assemblies.generator import Generator
from blocks.families import ImageHead, Scheduled, ScheduledIn, WeightNorm
from registry import Problem, Spec

Beta = Annotated[Scheduled, ScheduledIn(ge=0, lt=1)]
PHASES: dict[str, dict[str, Any]] = {
    "all": {},
    "freeze64": {"mapping": False, "above": 64},
    "text-encoder": {"mapping": False, "synthesis": False, "condition": True},
}


class Adam(BaseModel):
    """The Adam optimizer of one network.

    Where a regularizer is lazy (`every` > 1), the trainer corrects `lr` and `betas` as in StyleGAN2, Karras et al.
    2020, https://arxiv.org/abs/1912.04958, appendix B. AdamW: Loshchilov and Hutter 2017,
    https://arxiv.org/abs/1711.05101.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr: Annotated[Scheduled, ScheduledIn(gt=0), Field(description="Learning rate; a number or a schedule.")] = 0.002
    betas: Annotated[
        tuple[Beta, Beta],
        Field(description="Decay rates of the running means of the gradient and of its square; numbers or schedules."),
    ] = (0.0, 0.99)
    eps: Annotated[PositiveFloat, Field(description="Added to the denominator.")] = 1e-8
    weight_decay: Annotated[
        float,
        Field(ge=0, description="Share of each weight, times the learning rate, that a step subtracts, as in AdamW."),
    ] = 0.0
    warmup_kimg: Annotated[
        float, Field(ge=0, description="Thousands of images in which the learning rate rises linearly from 0.")
    ] = 0.0
    decay_kimg: Annotated[
        float, Field(ge=0, description="Thousands of images, the last ones, in which it falls linearly to 0.")
    ] = 0.0
    decay_fraction: Annotated[
        float, Field(ge=0, le=1, description="The same as a fraction of the training; the longer of both counts.")
    ] = 0.0
    base_width: Annotated[
        PositiveInt | None,
        Field(description="Width of the network that `lr` is for: the rate is lr x base_width / width, as in GAT."),
    ] = None
    width: Annotated[
        PositiveInt | None, Field(description="Width of this network, such as the features of its tokens.")
    ] = None
    clip_norm: Annotated[
        PositiveFloat | None,
        Field(description="Largest norm of the gradient of all weights together in the main phase; null: no clipping."),
    ] = None

    @model_validator(mode="after")
    def _check_widths(self) -> Adam:
        if (self.base_width is None) != (self.width is None):
            missing = "base_width" if self.base_width is None else "width"
            raise PydanticCustomError("width", "{name} is missing; give both widths or none", {"name": missing})
        return self

    @property
    def width_factor(self) -> float:
        """base_width / width, the factor of the learning rate; 1 without widths."""
        return 1.0 if self.base_width is None or self.width is None else self.base_width / self.width


class EMA(BaseModel):
    """The exponential moving average of the generator's weights, which images are generated with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_life_kimg: Annotated[
        Scheduled, ScheduledIn(ge=0), Field(description="Half-life, in thousands of images; a number or a schedule.")
    ] = 10.0
    start_kimg: Annotated[
        float, Field(ge=0, description="Thousands of images before averaging starts; until then weights are copied.")
    ] = 0.0
    ramp_up: Annotated[
        float | None,
        Field(ge=0, description="Largest half-life, as a fraction of the images shown so far; null: no ramp."),
    ] = 0.05
    sigma_rel: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=0.28)], ...],
        Field(max_length=4, description="Relative widths of power-function averages; for `ganblocks average`, two."),
    ] = ()
    snapshot_kimg: Annotated[PositiveFloat, Field(description="Thousands of images between their snapshots.")] = 8.0
    snapshots: Annotated[int, Field(ge=2, le=1000, description="Most snapshots; then every second one goes.")] = 32


class Checkpoint(BaseModel):
    """Lists of steps whose activations the backward pass computes again: less memory, one more forward pass.

    Chen et al. 2016, https://arxiv.org/abs/1604.06174. Gradients are the same bit for bit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    generator: Annotated[bool, Field(description="The generator's synthesis.")] = False
    discriminator: Annotated[bool, Field(description="The discriminator's steps.")] = False

    def problems_with(self, generator: Spec, discriminator: Spec) -> list[Problem]:
        """Networks whose activations cannot be computed again."""
        problems = []
        for name, spec, steps in (("generator", generator, "synthesis"), ("discriminator", discriminator, "steps")):
            if not getattr(self, name):
                continue
            norm = getattr(spec, "weight_norm", None)
            if not hasattr(spec, steps):
                fact = f"a {name} of kind {spec.kind} has no list of steps; set it to false"
                problems.append(Problem(("checkpoint", name), fact))
            elif norm is not None and norm.block.converge is not WeightNorm.converge:
                fact = f"{norm.kind} changes its vectors in each pass, so a pass cannot be repeated; set it to false"
                problems.append(Problem(("checkpoint", name), fact))
        return problems

    def apply(self, generator: Generator, discriminator: Discriminator) -> None:
        """Set the option of both networks."""
        for network, chosen in ((generator.synthesis, self.generator), (discriminator, self.discriminator)):
            if chosen:
                network.checkpoint = True  # type: ignore[assignment]


CheckpointLists = Annotated[
    Checkpoint, BeforeValidator(lambda v: {"generator": v, "discriminator": v} if isinstance(v, bool) else v)
]


class Keep(BaseModel):
    """Which models of a training are kept beside the newest and the best one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    last: Annotated[int, Field(ge=0, le=1000, description="Number of snapshots at the last log lines.")] = 0
    every_kimg: Annotated[
        float | None, Field(gt=0, description="A snapshot at every so many thousands of images, for good; null: none.")
    ] = None


class Trainable(BaseModel):
    """The trained parts of a generator."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mapping: Annotated[bool, Field(description="Whether the mapping is trained.")] = True
    synthesis: Annotated[bool, Field(description="Whether the synthesis is trained.")] = True
    above: Annotated[
        NonNegativeInt,
        Field(
            description="Largest feature map, in pixels, whose synthesis steps are frozen; image heads are trained at "
            "every size. 0: all steps are trained."
        ),
    ] = 0
    condition: Annotated[bool, Field(description="Whether the condition block is trained, such as a text encoder.")] = (
        False
    )

    def apply(self, generator: Generator) -> None:
        """Freeze the parts that are not trained."""
        if not self.mapping:
            generator.mapping.requires_grad_(False)
        condition = getattr(generator, "condition", None)
        if condition is not None and not self.condition:
            condition.requires_grad_(False)
        if not self.synthesis:
            generator.synthesis.requires_grad_(False)
        elif self.above:
            steps: Any = generator.synthesis
            for step, resolution in zip(steps, steps.resolutions, strict=True):
                if resolution <= self.above and not isinstance(step, ImageHead):
                    step.requires_grad_(False)

    def problems_with(self, generator: Spec) -> list[Problem]:
        """Parts that the generator of `generator` does not have."""
        problems = []
        if self.condition and not getattr(getattr(generator, "condition", None), "embed_weights", False):
            fact = "the generator has no trainable condition; give it one with embed_weights: true"
            problems.append(Problem(("trainable", "condition"), fact))
        if self.above and not hasattr(generator, "synthesis"):
            fact = f"a generator of kind {generator.kind} has no list of steps; use 0"
            problems.append(Problem(("trainable", "above"), fact))
        if not (self.mapping or self.synthesis or self.condition):
            fact = "no part of the generator is trained; set mapping, synthesis or condition to true"
            problems.append(Problem(("trainable",), fact))
        return problems


def _phase(value: Any) -> Any:
    if isinstance(value, str):
        if value not in PHASES:
            raise ValueError(f"unknown phase {value!r}; valid: {', '.join(PHASES)}, or a mapping such as {{above: 64}}")
        return PHASES[value]
    return value


TrainableParts = Annotated[Trainable, BeforeValidator(_phase, json_schema_input_type=Trainable | str)]
"""The trained parts, or the name of a phase: all, freeze64, text-encoder."""
