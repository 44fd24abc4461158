"""A multi-stage training as one document: several GANs in a row, each initialised from the networks of the last.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, section 3, trains a generator at 64 pixels, then
appends steps and trains these alone, then tunes the text encoder. Progressive growing, Karras et al. 2017,
https://arxiv.org/abs/1710.10196, section 2, adds steps to the discriminator too, before its others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from torch import Tensor, nn

from assemblies.discriminator import LayeredDiscriminator, discriminator_context
from assemblies.gan import GAN, check
from assemblies.trace import Trace
from registry import Block, IncompatibleError, Problem, Slot, Spec

InitFromPrevious = Literal["both", "generator", "nothing"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class Stage(BaseModel):
    """One training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[Name, Field(description="Name of its run folder, after its number.")]
    gan: Annotated[Slot[GAN], Field(description="The document of this training.")]
    init_from_previous: Annotated[
        InitFromPrevious,
        Field(
            description="Networks that start with the weights of the previous stage: the averaged generator, to which "
            "steps may have been appended, and the discriminator, which may have more steps at its front; or the "
            "generator alone; or nothing."
        ),
    ] = "both"


class MultiStage(Block, nn.Module, family="multi-stage", kind="stages"):
    """Trainings in a row, each initialised from the one before.

    Args:
        stages: The trainings, in their order.
        plugins: Packages and versions that the document was made with; written when it is saved, shown by errors.
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
        stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=16)],
        plugins: dict[str, str] = {},  # noqa: B006 (pydantic copies it)
    ) -> None:
        super().__init__()
        self.gans = nn.ModuleList(stage.gan.build() for stage in stages)  # type: ignore[union-attr]

    @classmethod
    def trace_stages(cls, spec: Spec) -> tuple[dict[str, Trace], list[Problem]]:
        """Traces of the networks of all stages, and all problems."""
        traces: dict[str, Trace] = {}
        problems: list[Problem] = []
        names = [stage.name for stage in spec.stages]
        for index, stage in enumerate(spec.stages):
            path = ("stages", index)
            if stage.name in names[:index]:
                fact = f"{stage.name} names two stages, and each has its own run folder; choose another name"
                problems.append(Problem((*path, "name"), fact))
            try:
                stage_traces = check(stage.gan)
            except IncompatibleError as error:
                problems += [problem.under(*path, "gan") for problem in error.problems]
                continue
            for network, trace in stage_traces.items():
                steps = tuple(step._replace(path=(*path, "gan", *step.path)) for step in trace.steps)
                traces[f"{stage.name}.{network}"] = trace._replace(steps=steps)
        return traces, problems or initialisation_problems(spec.stages)


CURES = {
    "generator": "only append steps",
    "discriminator": "only add steps at its front, or initialise the generator alone",
}
INITIALISED: dict[InitFromPrevious, tuple[str, ...]] = {
    "both": ("generator", "discriminator"),
    "generator": ("generator",),
    "nothing": (),
}


def trainings_of(document: Spec) -> dict[str, Any]:
    """The `GAN.Spec` of each training of a document, by stage; that of a GAN, which has no stages, by ""."""
    if issubclass(document.block, MultiStage):
        return {stage.name: stage.gan for stage in document.stages}
    return {"": document}


def initialisation_problems(stages: tuple[Stage, ...]) -> list[Problem]:
    """Stages that cannot be initialised from the networks of the one before; nothing is allocated."""
    problems = []
    with torch.device("meta"):
        networks = [_networks(stage.gan) for stage in stages]
    for index, (stage, previous, current) in enumerate(zip(stages[1:], networks, networks[1:], strict=False), start=1):
        for network in INITIALISED[stage.init_from_previous]:
            if names := without_counterpart(grown(previous[network].state_dict(), current[network]), current[network]):
                more = f" and {len(names) - 1} more tensors" if len(names) > 1 else ""
                fact = f"the {network} of the previous stage has {names[0]}{more}, which this stage's {network} lacks"
                problems.append(Problem(("stages", index, "init_from_previous"), f"{fact}; {CURES[network]}"))
    return problems


def grown(tensors: Mapping[str, Tensor], network: nn.Module) -> Mapping[str, Tensor]:
    """Tensors of a discriminator with fewer steps, named as in this network, which ends with the same ones.

    Those of the first step are left out: it reads the smaller images.
    """
    if not isinstance(network, LayeredDiscriminator):
        return tensors
    steps = {name: int(name.split(".")[1]) for name in tensors if name.startswith("steps.")}
    added = len(network.steps) - 1 - max(steps.values(), default=0)
    if added <= 0:
        return tensors
    return {f"steps.{step + added}.{name.split('.', 2)[2]}": tensors[name] for name, step in steps.items() if step}


def without_counterpart(tensors: Mapping[str, Tensor], network: nn.Module) -> list[str]:
    """Tensors that a network does not have under this name and shape, as text."""
    own = network.state_dict()
    return [
        f"{name} {list(value.shape)}"
        for name, value in tensors.items()
        if name not in own or own[name].shape != value.shape
    ]


def init_from(tensors: Mapping[str, Tensor], network: nn.Module, subject: str) -> None:
    """Initialise a network with these tensors; its other tensors keep their values.

    Raises:
        IncompatibleError: The network lacks one of them.
    """
    if names := without_counterpart(tensors, network):
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        cure = "only append steps to a generator, and add steps to a discriminator at its front"
        fact = f"has tensors that this network lacks: {', '.join(names[:3])}{more}; {cure}"
        raise IncompatibleError([Problem((), fact)], subject)
    network.load_state_dict(tensors, strict=False)


def _networks(spec: Any) -> dict[str, nn.Module]:
    generator = spec.generator.build()
    discriminator = spec.discriminator.build(**discriminator_context(generator))
    return {"generator": generator, "discriminator": discriminator}
