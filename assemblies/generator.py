"""A generator is a list: a source, layers and readouts over two values, the features and the image so far.

The style-based design (mapping, styles, truncation): StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from assemblies.trace import ForwardState, Step, Trace, trace_steps
from blocks.common.noise import NoiseMode
from blocks.common.noise import noise_mode as chosen_noise
from blocks.families import Condition, ImageHead, Layer, Mapping, SynthesisInput
from registry import Block, IncompatibleError, Problem, Slot, Spec, build_at, collecting, incompatible

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
    condition: Condition | None
    mapping: nn.Module
    synthesis: nn.Module

    @classmethod
    def trace(cls, spec: Spec) -> Trace:
        """Shapes, sizes and misfits of the generator that `spec` describes, found without allocating it."""
        raise NotImplementedError

    @torch.no_grad()
    def condition_of(self, said: Sequence[Any]) -> Float[Tensor, "b d"]:
        """The condition c of classes or captions, whichever the generator takes.

        Raises:
            ValueError: It takes no condition, or not of that sort.
        """
        device = next(self.parameters()).device
        condition = getattr(self, "condition", None)
        if condition is not None:
            found: Tensor = condition(condition.read(said).to(device))
            return found
        if not self.cond_dim:
            raise ValueError("the generator takes no condition (its cond_dim is 0)")
        if not all(str(each).isdigit() and int(each) < self.cond_dim for each in said):
            raise ValueError(f"the generator knows classes 0 to {self.cond_dim - 1}, not {list(said)[:3]}")
        return F.one_hot(torch.tensor([int(each) for each in said]), self.cond_dim).float().to(device)

    def forward(
        self,
        z: Float[Tensor, "b z"],
        c: Float[Tensor, "b d"] | None = None,
        *,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: NoiseMode | None = None,
    ) -> Float[Tensor, "b k h w"]:
        """Images of latents.

        Args:
            z: Latents.
            c: Conditions, where the generator takes any.
            truncation_psi: 1 leaves the styles as they are, 0 makes all of them their tracked mean.
            truncation_cutoff: How many styles, from the first, are truncated; None for all.
            noise_mode: Where layers with noise take it from: "random", "const" or "none"; None for random noise while
                training and constant noise in eval mode.
        """
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        with chosen_noise(noise_mode):
            return self.synthesis(ws)


class LayeredGenerator(Generator, kind="layered"):
    """A list of steps, each of which uses the next of the style vectors ws as many as it needs.

    Args:
        z_dim: Features of the latent z, drawn from N(0,1).
        w_dim: Features of a style vector; `z_dim` if None.
        cond_dim: Features of the condition c, such as the number of classes (c is then one-hot); 0 for none. Where
            `condition` is given it decides.
        condition: Makes c of classes or captions.
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
        condition: Slot[Condition] | None = None,
        mapping: Slot[Mapping] = "mapping",
        synthesis: tuple[Slot[SynthesisInput | Layer | ImageHead], ...],
        image_channels: PositiveInt = 3,
        value_range: ValueRange = "symmetric",
    ) -> None:
        super().__init__()
        self.condition = self.fill("condition", condition)
        if self.condition is not None:
            cond_dim = _agreed(cond_dim, str(self.condition.kind), self.condition.cond_dim)
        self.z_dim, self.w_dim, self.cond_dim = z_dim, w_dim or z_dim, cond_dim
        self.image_channels, self.value_range = image_channels, value_range
        found = _trace_synthesis(synthesis, self.w_dim, image_channels)
        if found.problems:
            raise IncompatibleError(found.problems)
        assert found.image is not None
        self.resolution = (found.image[1], found.image[2])
        self.synthesis = Synthesis(found.steps)
        self.num_ws = self.synthesis.num_ws
        self.mapping = self.fill("mapping", mapping, **_mapping_context(z_dim, self.w_dim, cond_dim, self.num_ws))

    @classmethod
    def trace(cls, spec: Spec) -> Trace:
        assert isinstance(spec, cls.Spec)
        w_dim = spec.w_dim or spec.z_dim
        found = _trace_synthesis(spec.synthesis, w_dim, spec.image_channels)
        problems: list[Problem] = []
        steps: list[Step] = []
        cond_dim = spec.cond_dim
        try:
            cond_dim, parameters = _condition_of(spec)
            if spec.condition is not None:
                steps.append(_step("condition", spec.condition, {}, parameters))
        except IncompatibleError as error:
            problems.extend(error.problems)
        context = _mapping_context(spec.z_dim, w_dim, cond_dim, max(1, _schedule(found.steps)[1]))
        parameters = 0
        with torch.device("meta"), collecting():
            try:
                parameters = sum(p.numel() for p in build_at(("mapping",), spec.mapping, **context).parameters())
            except IncompatibleError as error:
                problems.extend(error.problems)
        steps.append(_step("mapping", spec.mapping, context, parameters))
        return Trace((*steps, *found.steps), (*problems, *found.problems), found.complete)


class Synthesis(nn.ModuleList):
    """The steps of a generator: ws [B,num_ws,w_dim] -> image [B,K,H,W]."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        super().__init__(build_at(step.path, step.spec, **step.context) for step in steps)
        self.schedule, self.num_ws = _schedule(steps)
        self.resolutions = [max(step.features[1:]) if step.features else 0 for step in steps]

    def forward(self, ws: Float[Tensor, "b n s"], *, noise_mode: NoiseMode | None = None) -> Float[Tensor, "b k h w"]:
        if ws.shape[1] != self.num_ws:
            raise ValueError(f"ws has {ws.shape[1]} style vectors, the generator uses {self.num_ws}: take G.mapping(z)")
        state = GeneratorState()
        with chosen_noise(noise_mode):
            for block, styles in zip(self, self.schedule, strict=True):
                state.ws = ws[:, styles]
                state.advance(block)
        assert state.image is not None
        return state.image


class GeneratorState(ForwardState):
    """Features and image on their way through a generator; `ws` are the style vectors of the current step."""

    def __init__(self, ws: Tensor | None = None, offered: dict[str, int] | None = None) -> None:
        self.ws = ws
        self.offered = offered or {}

    def context(self, spec: Spec) -> dict[str, object]:
        if issubclass(spec.block, SynthesisInput):
            if self.features is not None:
                raise incompatible((), "a source starts the list; there are features already")
        elif self.features is None:
            raise incompatible((), f"a {spec.block.family_name} needs features: the list starts with a source")
        return self.offered | self.feature_context()

    def advance(self, block: nn.Module) -> None:
        if isinstance(block, SynthesisInput):
            self.features = block(self.ws)
        elif isinstance(block, ImageHead):
            self.image = block(self.features, self.ws, self.image)
        else:
            self.features = block(self.features, self.ws)


class _TracingState(GeneratorState):
    """Gives each block of a survey as many style vectors as it says it uses."""

    def advance(self, block: nn.Module) -> None:
        self.ws = torch.zeros(1, int(block.num_styles), self.offered["style_dim"])  # type: ignore[arg-type]
        super().advance(block)


def _trace_synthesis(synthesis: tuple[Any, ...], w_dim: int, image_channels: int) -> Trace:
    found = trace_steps(
        "synthesis", synthesis, _TracingState(None, {"style_dim": w_dim, "image_channels": image_channels})
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


def _mapping_context(z_dim: int, w_dim: int, cond_dim: int, num_ws: int) -> dict[str, int]:
    return {"z_dim": z_dim, "style_dim": w_dim, "cond_dim": cond_dim, "num_styles": num_ws}


def cond_dim_of(spec: Spec) -> int:
    """Features of the condition of the generator that `spec` describes; 0 for none."""
    return _condition_of(spec)[0]


def condition_input(spec: Spec) -> Literal["classes", "captions"] | None:
    """What the generator that `spec` describes is told of an image."""
    if (chosen := getattr(spec, "condition", None)) is None:
        return "classes" if getattr(spec, "cond_dim", 0) else None
    told: Literal["classes", "captions"] = chosen.block.condition_input
    return told


def _condition_of(spec: Spec) -> tuple[int, int]:
    """Features of the condition, and parameters of what makes it; nothing is allocated."""
    cond_dim: int = getattr(spec, "cond_dim", 0)
    if (chosen := getattr(spec, "condition", None)) is None:
        return cond_dim, 0
    said = chosen.model_dump_json()  # towers take a moment to build, also without memory
    if said not in _sizes:
        with torch.device("meta"):
            condition = build_at(("condition",), chosen)
        _sizes[said] = condition.cond_dim, sum(parameter.numel() for parameter in condition.parameters())
    return _agreed(cond_dim, chosen.kind, _sizes[said][0]), _sizes[said][1]


_sizes: dict[str, tuple[int, int]] = {}  # features and parameters of conditions that were looked at


def _agreed(cond_dim: int, kind: str, features: int) -> int:
    if cond_dim not in (0, features):
        raise incompatible(
            "cond_dim", f"says {cond_dim}, the condition {kind} has {features} features; leave cond_dim away"
        )
    return features


def _step(name: str, spec: Spec, context: dict[str, Any], parameters: int) -> Step:
    """A part of the generator before its list of steps."""
    return Step((name,), spec, context, 0, False, None, None, None, parameters, parameters)
