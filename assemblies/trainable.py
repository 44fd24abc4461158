"""Which parts of a generator learn: a training may go on with some of a model while the rest stays as it is.

The phases of StyleGAN-T's published training, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3: a model
of 64 pixels grows while what it has stays frozen, all but its readouts; and the text encoder is tuned by itself.
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
    """The parts of a generator that learn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mapping: Annotated[bool, Field(description="Whether the mapping learns.")] = True
    synthesis: Annotated[bool, Field(description="Whether steps of the synthesis learn.")] = True
    above: Annotated[
        NonNegativeInt,
        Field(
            description="Of the synthesis, only steps with maps larger than this learn, and all readouts; 0 for all."
        ),
    ] = 0
    condition: Annotated[bool, Field(description="Whether what makes the condition learns, such as a text tower.")] = (
        False
    )

    def apply(self, generator: Generator) -> None:
        """Freeze the parts that do not learn."""
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
        """What of this a generator cannot do."""
        place = "trainable"
        problems = []
        if self.condition and not getattr(getattr(generator, "condition", None), "embed_weights", False):
            fact = "the generator has no condition of its own that could learn; say embed_weights: true of it"
            problems.append(Problem((place, "condition"), fact))
        if self.above and not hasattr(generator, "synthesis"):
            problems.append(Problem((place, "above"), f"a generator of kind {generator.kind} has no steps; take 0"))
        if not (self.mapping or self.synthesis or self.condition):
            problems.append(Problem((place,), "nothing of the generator would learn"))
        return problems


def _named(value: Any) -> Any:
    if isinstance(value, str):
        if value not in PHASES:
            raise ValueError(f"{value!r} is no phase; valid: {', '.join(PHASES)}, or what learns: mapping, above, ...")
        return PHASES[value]
    return value


TrainableParts = Annotated[Trainable, BeforeValidator(_named, json_schema_input_type=Trainable | str)]
"""Which parts learn, or the name of a phase: all, freeze64, text-encoder."""
