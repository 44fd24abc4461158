"""A generator is a list: a source, layers and readouts over two values, the features and the image so far.

The style-based design (mapping, styles, truncation): StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from assemblies.survey import Flow, Step, Survey, survey_steps
from blocks.families import Layer, Mapping, Readout, Source
from registry import Block, Misfit, Problem, Slot, Spec, build_at, collecting, misfit

ValueRange = Literal["symmetric", "unit", "imagenet"]


class Generator(Block, nn.Module, family="generator"):
    """Makes images from latents: z [B,z_dim], c [B,cond_dim] or None -> image [B,K,H,W].

    `mapping(z, c)` gives ws [B,num_ws,w_dim], `synthesis(ws)` the image; style mixing, truncation and editing of ws
    work between the two, for every generator.
    """

    z_dim: int
    w_dim: int
    cond_dim: int
    num_ws: int
    image_channels: int
    resolution: tuple[int, int]
    # "symmetric" is [-1,1], "unit" [0,1], "imagenet" normalised by ImageNet's mean and deviation
    value_range: ValueRange
    mapping: nn.Module
    synthesis: nn.Module

    @classmethod
    def survey(cls, spec: Spec) -> Survey:
        """Shapes, sizes and misfits of the generator that `spec` describes, found without allocating it."""
        raise NotImplementedError

    def forward(
        self,
        z: Float[Tensor, "b z"],
        c: Float[Tensor, "b d"] | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Float[Tensor, "b k h w"]:
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        return self.synthesis(ws)


class LayeredGenerator(Generator, kind="layered"):
    """A list of steps, each of which uses the next of the style vectors ws as many as it needs.

    Args:
        z_dim: Features of the latent z, drawn from N(0,1).
        w_dim: Features of a style vector; `z_dim` if None.
        cond_dim: Features of the condition c, such as the number of classes (c is then one-hot); 0 for none.
        mapping: Turns z and c into ws.
        synthesis: The steps: one source first, then layers and readouts. Layers may say `repeat`.
        image_channels: Channels of the image.
        value_range: What the image's numbers mean: [-1,1], [0,1], or normalised by ImageNet's mean and deviation.
    """

    examples: ClassVar = (
        {
            "spec": {
                "z_dim": 8,
                "mapping": {"kind": "mapping", "num_layers": 2},
                "synthesis": [
                    {"kind": "constant", "resolution": [4, 3], "dim": 16},
                    {"kind": "transformer", "norm": "sln", "attention": {"kind": "dense", "num_heads": 2}},
                    {"kind": "upsample-linear", "dim": 8},
                    {"kind": "to-rgb"},
                ],
            }
        },
    )

    def __init__(
        self,
        *,
        z_dim: PositiveInt = 512,
        w_dim: PositiveInt | None = None,
        cond_dim: NonNegativeInt = 0,
        mapping: Slot[Mapping] = "mapping",
        synthesis: tuple[Slot[Source | Layer | Readout], ...],
        image_channels: PositiveInt = 3,
        value_range: ValueRange = "symmetric",
    ) -> None:
        super().__init__()
        self.z_dim, self.w_dim, self.cond_dim = z_dim, w_dim or z_dim, cond_dim
        self.image_channels, self.value_range = image_channels, value_range
        found = _survey_synthesis(synthesis, self.w_dim, image_channels)
        if found.problems:
            raise Misfit(found.problems)
        assert found.image is not None
        self.resolution = (found.image[1], found.image[2])
        self.synthesis = Synthesis(found.steps)
        self.num_ws = self.synthesis.num_ws
        self.mapping = self.fill("mapping", mapping, **_mapping_wiring(z_dim, self.w_dim, cond_dim, self.num_ws))

    @classmethod
    def survey(cls, spec: Spec) -> Survey:
        assert isinstance(spec, cls.Spec)
        w_dim = spec.w_dim or spec.z_dim
        found = _survey_synthesis(spec.synthesis, w_dim, spec.image_channels)
        problems: list[Problem] = []
        wiring = _mapping_wiring(spec.z_dim, w_dim, spec.cond_dim, max(1, _schedule(found.steps)[1]))
        parameters = 0
        with torch.device("meta"), collecting():
            try:
                parameters = sum(p.numel() for p in build_at(("mapping",), spec.mapping, **wiring).parameters())
            except Misfit as error:
                problems.extend(error.problems)
        mapping = Step(("mapping",), spec.mapping, wiring, 0, False, None, None, None, parameters, parameters)
        return Survey((mapping, *found.steps), (*problems, *found.problems), found.complete)


class Synthesis(nn.ModuleList):
    """The steps of a generator: ws [B,num_ws,w_dim] -> image [B,K,H,W]."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        super().__init__(build_at(step.path, step.spec, **step.wiring) for step in steps)
        self.schedule, self.num_ws = _schedule(steps)

    def forward(self, ws: Float[Tensor, "b n s"]) -> Float[Tensor, "b k h w"]:
        if ws.shape[1] != self.num_ws:
            raise ValueError(f"ws has {ws.shape[1]} style vectors, the generator uses {self.num_ws}: take G.mapping(z)")
        flow = GeneratorFlow()
        for block, styles in zip(self, self.schedule, strict=True):
            flow.ws = ws[:, styles]
            flow.advance(block)
        assert flow.image is not None
        return flow.image


class GeneratorFlow(Flow):
    """Features and image on their way through a generator; `ws` are the style vectors of the current step."""

    def __init__(self, ws: Tensor | None = None, offered: dict[str, int] | None = None) -> None:
        self.ws = ws
        self.offered = offered or {}

    def wiring(self, spec: Spec) -> dict[str, object]:
        if issubclass(spec.block, Source):
            if self.features is not None:
                raise misfit((), "a source starts the list; there are features already")
        elif self.features is None:
            raise misfit((), f"a {spec.block.family_name} needs features: the list starts with a source")
        return self.offered | self.told_of_features()

    def advance(self, block: nn.Module) -> None:
        if isinstance(block, Source):
            self.features = block(self.ws)
        elif isinstance(block, Readout):
            self.image = block(self.features, self.ws, self.image)
        else:
            self.features = block(self.features, self.ws)


class _SurveyFlow(GeneratorFlow):
    """Gives each block of a survey as many style vectors as it says it uses."""

    def advance(self, block: nn.Module) -> None:
        self.ws = torch.zeros(1, int(block.num_styles), self.offered["style_dim"])  # type: ignore[arg-type]
        super().advance(block)


def _survey_synthesis(synthesis: tuple[Any, ...], w_dim: int, image_channels: int) -> Survey:
    found = survey_steps(
        "synthesis", synthesis, _SurveyFlow(None, {"style_dim": w_dim, "image_channels": image_channels})
    )
    if found.problems:
        return found
    if found.image is None:
        return found._replace(problems=(Problem(("synthesis",), "makes no image: add a readout such as to-rgb"),))
    if found.image[0] != image_channels:
        fact = f"the image has {found.image[0]} channels, image_channels says {image_channels}"
        return found._replace(problems=(Problem(("image_channels",), fact),))
    return found


def _schedule(steps: tuple[Step, ...]) -> tuple[list[slice], int]:
    """For each step its slice of ws, and how many ws there are."""
    slices, first, num_ws = [], 0, 0
    for step in steps:
        slices.append(slice(first, first + step.num_styles))
        num_ws = max(num_ws, first + step.num_styles)
        if not step.shares_next_style:
            first += step.num_styles
    return slices, num_ws


def _mapping_wiring(z_dim: int, w_dim: int, cond_dim: int, num_ws: int) -> dict[str, int]:
    return {"z_dim": z_dim, "style_dim": w_dim, "cond_dim": cond_dim, "num_styles": num_ws}
