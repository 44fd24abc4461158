"""A recipe: trainings one after the other, each of which begins with the networks of the one before, as one document.

Two resolutions as StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3: a generator learns at 64
pixels, then more steps are put behind it that learn alone; and its text encoder may be tuned at the end.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from torch import Tensor, nn

from assemblies.gan import GAN, check
from assemblies.trace import Trace
from registry import Block, IncompatibleError, Problem, Slot, Spec

InitFromPrevious = Literal["both", "generator", "nothing"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class Stage(BaseModel):
    """One training of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[Name, Field(description="What its run folder is called, after its number.")]
    gan: Annotated[Slot[GAN], Field(description="The whole document of this training.")]
    init_from_previous: Annotated[
        InitFromPrevious,
        Field(
            description="Whose weights it takes on from the stage before: the averaged generator's, which may have "
            "grown by steps at its end, and the discriminator's."
        ),
    ] = "both"


class MultiStage(Block, nn.Module, family="multi-stage", kind="stages"):
    """Trainings in a row, each beginning with what the one before has learnt.

    Args:
        stages: The trainings, in their order.
        plugins: Packages and versions that the document was made with: written when it is saved, told by errors.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {
            "spec": {
                "stages": [
                    {"name": "first", "gan": {"kind": "gan", **GAN.examples[0]["spec"]}},
                    {
                        "name": "second",
                        "gan": {"kind": "gan", **GAN.examples[0]["spec"]},
                        "init_from_previous": "generator",
                    },
                ]
            }
        },
    )

    def __init__(
        self,
        *,
        stages: Annotated[tuple[Stage, ...], Field(min_length=1)],
        plugins: dict[str, str] = {},  # noqa: B006 (pydantic copies it)
    ) -> None:
        super().__init__()
        self.gans = nn.ModuleList(stage.gan.build() for stage in stages)  # type: ignore[union-attr]

    @classmethod
    def look(cls, spec: Spec) -> tuple[dict[str, Trace], list[Problem]]:
        """Surveys of the networks of all stages, and everything that does not fit."""
        found: dict[str, Trace] = {}
        problems: list[Problem] = []
        names = [stage.name for stage in spec.stages]
        for index, stage in enumerate(spec.stages):
            path = ("stages", index)
            if stage.name in names[:index]:
                problems.append(Problem((*path, "name"), f"{stage.name} is there twice; each stage has its own folder"))
            try:
                traces = check(stage.gan)
            except IncompatibleError as error:
                problems += [problem.under(*path, "gan") for problem in error.problems]
                continue
            for network, trace in traces.items():
                steps = tuple(step._replace(path=(*path, "gan", *step.path)) for step in trace.steps)
                found[f"{stage.name}.{network}"] = trace._replace(steps=steps)
        return found, problems or stage_problems(spec.stages)


def stage_problems(stages: tuple[Stage, ...]) -> list[Problem]:
    """Where a stage cannot take on the networks of the one before; nothing is allocated."""
    problems = []
    with torch.device("meta"):
        networks = [_networks(stage.gan) for stage in stages]
    for index, (stage, old, new) in enumerate(zip(stages[1:], networks, networks[1:], strict=False), start=1):
        for part in {"both": ("generator", "discriminator"), "generator": ("generator",), "nothing": ()}[
            stage.init_from_previous
        ]:
            wrong = unlike(old[part].state_dict(), new[part])
            if wrong:
                more = f", nor do {len(wrong) - 1} more" if len(wrong) > 1 else ""
                said = f"{wrong[0]} does not go into this stage's {part}{more}"
                cure = "a generator grows by steps at its end" if part == "generator" else "take the generator alone"
                problems.append(
                    Problem(("stages", index, "init_from_previous"), f"of the stage before, {said}; {cure}")
                )
    return problems


def unlike(tensors: dict[str, Tensor], network: nn.Module) -> list[str]:
    """Tensors that a network has no place for, by name and shape."""
    places = network.state_dict()
    return [
        f"{name} {list(value.shape)}"
        for name, value in tensors.items()
        if name not in places or places[name].shape != value.shape
    ]


def init_from(tensors: dict[str, Tensor], network: nn.Module, subject: str) -> None:
    """Let a network begin with these tensors; what it has beside them stays as it is.

    Raises:
        IncompatibleError: A tensor has no place in the network.
    """
    if wrong := unlike(tensors, network):
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        said = f"has tensors without a place here: {', '.join(wrong[:3])}{more}; a generator grows by steps at its end"
        raise IncompatibleError([Problem((), said)], subject)
    network.load_state_dict(tensors, strict=False)


def _networks(spec: Any) -> dict[str, nn.Module]:
    generator = spec.generator.build()
    context = {name: getattr(generator, name) for name in ("resolution", "image_channels", "cond_dim")}
    return {"generator": generator, "discriminator": spec.discriminator.build(**context)}
