"""Which parts of a generator are trained; the rest is frozen.

The phases of StyleGAN-T's published training, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3: a model
of 64 pixels gets more layers, and all that it has is frozen except its image heads; then the text encoder alone is
tuned.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt

from assemblies.generator import Generator
from blocks.families import ImageHead
from registry import Problem, Spec

PHASES: dict[str, dict[str, Any]] = {
    "all": {},
    "freeze64": {"mapping": False, "above": 64},
    "text-encoder": {"mapping": False, "synthesis": False, "condition": True},
}


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
