"""A generator as a list of steps: a synthesis input, layers and image heads, which pass on features and an image.

The style-based design (mapping, styles, truncation): StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from assemblies.condition import condition_size, resolve_cond_dim
from assemblies.inference import Inference, Precision, optimized
from assemblies.trace import (
    MAX_STEPS,
    ForwardState,
    Step,
    Trace,
    check_memory,
    count_parameters,
    trace_once,
    trace_steps,
)
from blocks.common.noise import NoiseMode
from blocks.common.noise import noise_mode as chosen_noise
from blocks.families import Condition, ImageHead, Layer, Mapping, SynthesisInput
from registry import Block, IncompatibleError, Problem, Slot, Spec, build_at, collecting, incompatible

ValueRange = Literal["symmetric", "unit", "imagenet"]


class Generator(Block, nn.Module, family="generator"):
    """Generates images from latents: z [B,z_dim], c [B,cond_dim] or None -> image [B,K,H,W].

    `mapping(z, c)` returns ws [B,num_ws,w_dim] and `synthesis(ws)` the image. Style mixing, truncation and editing
    change ws between the two.
    """

    z_dim: int
    w_dim: int
    cond_dim: int
    num_ws: int
    image_channels: int
    resolution: tuple[int, int]
    # "symmetric" is [-1,1], "unit" [0,1], "imagenet" normalised by ImageNet's mean and standard deviation
    value_range: ValueRange
    condition: Condition | None
    mapping: nn.Module
    synthesis: nn.Module
    inference: Inference | None = None
    """What `optimize_for_inference` did to this copy of a generator."""

    @classmethod
    def trace(cls, spec: Spec) -> Trace:
        """Shapes, sizes and problems of the generator that `spec` describes; nothing is allocated."""
        raise NotImplementedError

    @torch.no_grad()
    def condition_of(self, inputs: Sequence[Any]) -> Float[Tensor, "b d"]:
        """The condition c of class indices or captions, whichever the generator takes.

        Raises:
            ValueError: The generator is unconditional, or `inputs` are not of the type that it takes.
        """
        device = next(self.parameters()).device
        condition = getattr(self, "condition", None)
        if condition is not None:
            c: Tensor = condition(condition.read(inputs).to(device))
            return c
        if not self.cond_dim:
            raise ValueError("the generator is unconditional: its cond_dim is 0")
        if not all(str(each).isdigit() and int(each) < self.cond_dim for each in inputs):
            raise ValueError(f"the generator has classes 0 to {self.cond_dim - 1}, not {list(inputs)[:3]}")
        return F.one_hot(torch.tensor([int(each) for each in inputs]), self.cond_dim).float().to(device)

    def optimize_for_inference(self, *, batch_size: int | None = None, precision: Precision = "fp32") -> Self:
        """A copy that makes images faster: equal to this generator up to rounding, in eval mode, with frozen weights.

        Weights that the synthesis uses in 16 bits only are cast once; the mapping, styles, colours and statistics of
        norms stay in float32. Values that depend on weights alone are computed once. On a GPU the second call with
        inputs of one shape is captured in a CUDA graph, which later calls replay; noise is drawn anew in each. Where
        that fails, a warning gives the reason, and calls run without a graph. Weights that are not cast share their
        memory with this generator: make a new copy after changing them.

        Args:
            batch_size: Captures the graph for this batch size now, not at the second call.
            precision: Precision of the synthesis: "fp32" (without TF32), "tf32", "bf16" or "fp16".

        Raises:
            ValueError: There is no such precision, or fp16 on a CPU.
        """
        return cast(Self, optimized(self, batch_size, precision))

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
            c: Conditions of a conditional generator.
            truncation_psi: Interpolates from the mean style (0) to the styles of z (1).
            truncation_cutoff: Number of styles, from the first on, that are truncated; None for all.
            noise_mode: Noise of the layers that add it: "random", "const" or "none"; None for random noise in training
                and constant noise in eval mode.
        """
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        with chosen_noise(noise_mode):
            return self.synthesis(ws)


class LayeredGenerator(Generator, kind="layered"):
    """A list of steps; each uses the next style vectors of ws, as many as it needs.

    Args:
        z_dim: Features of the latent z, drawn from N(0,1).
        w_dim: Features of a style vector; `z_dim` if None.
        cond_dim: Features of the condition c, such as the number of classes (c is then one-hot); 0 for none. With a
            `condition`, its number of features; may be omitted.
        condition: Encodes a class label or caption as the condition vector c.
        mapping: Maps z and c to ws.
        synthesis: The steps: a synthesis input first, then layers and image heads. Layers accept `repeat`.
        image_channels: Channels of the image.
        value_range: Range of the image's values: symmetric is [-1,1], unit [0,1], imagenet normalised by ImageNet's
            mean and standard deviation.
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
        synthesis: Annotated[tuple[Slot[SynthesisInput | Layer | ImageHead], ...], Field(max_length=MAX_STEPS)],
        image_channels: PositiveInt = 3,
        value_range: ValueRange = "symmetric",
    ) -> None:
        super().__init__()
        self.condition = self.fill("condition", condition)
        if self.condition is not None:
            cond_dim = resolve_cond_dim(cond_dim, str(self.condition.kind), self.condition.cond_dim)
        self.z_dim, self.w_dim, self.cond_dim = z_dim, w_dim or z_dim, cond_dim
        self.image_channels, self.value_range = image_channels, value_range
        trace = _trace(synthesis, self.w_dim, image_channels)
        if trace.problems:
            raise IncompatibleError(trace.problems)
        assert trace.image is not None
        self.resolution = (trace.image[1], trace.image[2])
        check_memory(trace.parameters)
        self.synthesis = Synthesis(trace.steps)
        self.num_ws = self.synthesis.num_ws
        context = _mapping_context(z_dim, self.w_dim, cond_dim, self.num_ws)
        check_memory(trace.parameters + count_parameters(("mapping",), mapping, context))  # type: ignore[arg-type]
        self.mapping = self.fill("mapping", mapping, **context)

    @classmethod
    def trace(cls, spec: Spec) -> Trace:
        assert isinstance(spec, cls.Spec)
        w_dim = spec.w_dim or spec.z_dim
        synthesis = _trace(spec.synthesis, w_dim, spec.image_channels)
        problems: list[Problem] = []
        steps: list[Step] = []
        cond_dim = spec.cond_dim
        try:
            cond_dim, parameters = condition_size(spec)
            if spec.condition is not None:
                steps.append(_step("condition", spec.condition, {}, parameters))
        except IncompatibleError as error:
            problems.extend(error.problems)
        context = _mapping_context(spec.z_dim, w_dim, cond_dim, max(1, _schedule(synthesis.steps)[1]))
        parameters = 0
        with torch.device("meta"), collecting():
            try:
                parameters = count_parameters(("mapping",), spec.mapping, context)
            except IncompatibleError as error:
                problems.extend(error.problems)
        steps.append(_step("mapping", spec.mapping, context, parameters))
        return Trace((*steps, *synthesis.steps), (*problems, *synthesis.problems), synthesis.complete)


class Synthesis(nn.ModuleList):
    """The steps of a generator: ws [B,num_ws,w_dim] -> image [B,K,H,W]."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        super().__init__(build_at(step.path, step.spec, **step.context) for step in steps)
        self.schedule, self.num_ws = _schedule(steps)
        self.resolutions = [max(step.features[1:]) if step.features else 0 for step in steps]

    def forward(self, ws: Float[Tensor, "b n s"], *, noise_mode: NoiseMode | None = None) -> Float[Tensor, "b k h w"]:
        if ws.shape[1] != self.num_ws:
            raise ValueError(f"ws has {ws.shape[1]} style vectors, the generator uses {self.num_ws}; see G.mapping(z)")
        state = GeneratorState()
        with chosen_noise(noise_mode):
            for block, styles in zip(self, self.schedule, strict=True):
                state.ws = ws[:, styles]
                state.advance(block)
        assert state.image is not None
        return state.image


class GeneratorState(ForwardState):
    """The features and image of a generator; `ws` are the style vectors of the current step."""

    def __init__(self, style_dim: int = 0, image_channels: int = 0) -> None:
        self.ws: Tensor | None = None
        self.style_dim, self.image_channels = style_dim, image_channels

    def context(self, spec: Spec) -> dict[str, object]:
        if issubclass(spec.block, SynthesisInput):
            if self.features is not None:
                raise incompatible((), "a synthesis input is the first step; an earlier step already made features")
        elif self.features is None:
            raise incompatible((), f"a {spec.block.family_name} needs features; begin with a synthesis input")
        return {"style_dim": self.style_dim, "image_channels": self.image_channels} | self.feature_context()

    def advance(self, block: nn.Module) -> None:
        if isinstance(block, SynthesisInput):
            self.features = block(self.ws)
        elif isinstance(block, ImageHead):
            self.image = block(self.features, self.ws, self.image)
        else:
            self.features = block(self.features, self.ws)


class _TracingState(GeneratorState):
    """Passes each block of a trace `num_styles` style vectors."""

    def advance(self, block: nn.Module) -> None:
        self.ws = torch.zeros(1, int(block.num_styles), self.style_dim)  # type: ignore[arg-type]
        super().advance(block)


def _trace(synthesis: tuple[Any, ...], w_dim: int, image_channels: int) -> Trace:
    context = ("generator", w_dim, image_channels)
    return trace_once(synthesis, context, lambda: _trace_synthesis(synthesis, w_dim, image_channels))


def _trace_synthesis(synthesis: tuple[Any, ...], w_dim: int, image_channels: int) -> Trace:
    trace = trace_steps("synthesis", synthesis, _TracingState(w_dim, image_channels))
    if trace.problems:
        return trace
    if trace.image is None:
        return trace._replace(problems=(Problem(("synthesis",), "makes no image; add an image head such as to-rgb"),))
    if trace.image[0] != image_channels:
        fact = f"is {image_channels}, but the synthesis makes images of {trace.image[0]} channels"
        return trace._replace(problems=(Problem(("image_channels",), fact),))
    return trace


def _schedule(steps: tuple[Step, ...]) -> tuple[list[slice], int]:
    """For each step its slice of ws, and the number of ws."""
    slices, first, num_ws = [], 0, 0
    for step in steps:
        slices.append(slice(first, first + step.num_styles))
        num_ws = max(num_ws, first + step.num_styles)
        if not step.shares_next_style:
            first += step.num_styles
    return slices, num_ws


def _mapping_context(z_dim: int, w_dim: int, cond_dim: int, num_ws: int) -> dict[str, int]:
    return {"z_dim": z_dim, "style_dim": w_dim, "cond_dim": cond_dim, "num_styles": num_ws}


def _step(name: str, spec: Spec, context: dict[str, Any], parameters: int) -> Step:
    """A part of the generator outside its list of steps."""
    return Step((name,), spec, context, 0, False, None, None, None, parameters, parameters)
