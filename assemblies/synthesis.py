"""The synthesis network of a generator: a list of steps, which pass on features and an image.

The style-based design: StyleGAN, Karras et al. 2019, https://arxiv.org/abs/1812.04948.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from assemblies.trace import ForwardState, Step, Trace, trace_once, trace_steps, unused_steps
from blocks.common.noise import NoiseMode
from blocks.common.noise import noise_mode as chosen_noise
from blocks.families import Autoencoder, ImageHead, SynthesisInput
from registry import Problem, Spec, build_at, incompatible

ValueRange = Literal["symmetric", "unit", "imagenet"]
OutputActivation = Literal["linear", "tanh", "hardtanh"]
OUTPUTS: Mapping[tuple[OutputActivation, ValueRange], Callable[[Tensor], Tensor]] = {
    ("tanh", "symmetric"): torch.tanh,
    ("hardtanh", "symmetric"): F.hardtanh,
    ("hardtanh", "unit"): partial(F.hardtanh, min_val=0.0, max_val=1.0),
}


class Synthesis(nn.ModuleList):
    """The steps of a generator: ws [B,num_ws,w_dim] -> image [B,K,H,W].

    With `multi_level`, in training mode, the images of all image heads side by side: [B,nK,H,W]. With `checkpoint`, in
    training mode, the backward pass recomputes the activations of the steps. `output` is applied to each image.
    """

    checkpoint: bool = False

    def __init__(
        self,
        steps: tuple[Step, ...],
        *,
        multi_level: bool = False,
        num_tokens: int = 0,
        output: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(build_at(step.path, step.spec, **step.context) for step in steps)
        self.schedule, num_styles = schedule(steps)
        self.num_ws = num_styles + num_tokens
        self.multi_level, self.output = multi_level, output
        self.resolutions = [max(step.features[1:]) if step.features else 0 for step in steps]

    def forward(self, ws: Float[Tensor, "b n s"], *, noise_mode: NoiseMode | None = None) -> Float[Tensor, "b k h w"]:
        if ws.shape[1] != self.num_ws:
            raise ValueError(f"ws has {ws.shape[1]} style vectors, the generator uses {self.num_ws}; see G.mapping(z)")
        with chosen_noise(noise_mode):
            levels = self.levels(ws)
        images = levels if self.multi_level and self.training else levels[-1:]
        if self.output is not None:
            images = [self.output(image) for image in images]
        return torch.cat(images, dim=1) if len(images) > 1 else images[0]

    def levels(self, ws: Float[Tensor, "b n s"]) -> list[Float[Tensor, "b k h w"]]:
        """The image after each image head: the sum so far."""
        state, levels = GeneratorState(), []
        state.checkpoint = self.checkpoint and self.training
        for block, styles in zip(self, self.schedule, strict=True):
            state.ws = ws[:, styles]
            state.advance(block)
            if isinstance(block, ImageHead):
                assert state.image is not None
                levels.append(state.image)
        return levels


class GeneratorState(ForwardState):
    """The features and image of a generator; `ws` are the style vectors of the current step."""

    def __init__(self, style_dim: int = 0, image_channels: int = 0, num_tokens: int = 0) -> None:
        self.ws: Tensor | None = None
        self.style_dim, self.image_channels, self.num_tokens = style_dim, image_channels, num_tokens

    def context(self, spec: Spec) -> dict[str, object]:
        if issubclass(spec.block, SynthesisInput):
            if self.features is not None:
                raise incompatible((), "a synthesis input is the first step; an earlier step already made features")
        elif self.features is None:
            raise incompatible((), f"{spec.kind} needs features; begin with a synthesis input")
        style_dim = None if getattr(spec.block, "takes_tokens", False) and not self.num_tokens else self.style_dim
        return {"style_dim": style_dim, "image_channels": self.image_channels} | self.feature_context()

    def advance(self, block: nn.Module) -> None:
        if isinstance(block, SynthesisInput):
            self.features = self.run(block, self.ws)
        elif isinstance(block, ImageHead):
            self.image = self.run(block, self.features, self.ws, self.image)
        else:
            self.features = self.run(block, self.features, self.ws)


class _TracingState(GeneratorState):
    """Passes each block of a trace `num_styles` style vectors."""

    def advance(self, block: nn.Module) -> None:
        number = self.num_tokens if getattr(block, "takes_tokens", False) else int(block.num_styles)  # type: ignore[arg-type]
        self.ws = torch.zeros(1, number, self.style_dim)
        super().advance(block)


def trace_synthesis(
    synthesis: tuple[Any, ...], w_dim: int, image_channels: int, *, multi_level: bool = False, num_tokens: int = 0
) -> Trace:
    """Shapes, sizes and problems of a list of steps; nothing is allocated."""
    context = ("generator", w_dim, image_channels, multi_level, num_tokens)
    state = _TracingState(w_dim, image_channels, num_tokens)
    return trace_once(synthesis, context, lambda: _trace(synthesis, state, multi_level))


def _trace(synthesis: tuple[Any, ...], state: _TracingState, multi_level: bool) -> Trace:
    image_channels = state.image_channels
    trace = trace_steps("synthesis", synthesis, state)
    if trace.problems:
        return trace
    if trace.image is None:
        return trace._replace(problems=(Problem(("synthesis",), "makes no image; add an image head such as to-rgb"),))
    if problems := unused_steps("synthesis", synthesis, ImageHead, cure="an image head such as to-rgb"):
        return trace._replace(problems=problems)
    if trace.image[0] != image_channels:
        fact = f"is {image_channels}, but the synthesis makes images of {trace.image[0]} channels"
        return trace._replace(problems=(Problem(("image_channels",), fact),))
    sizes = sorted({step.image for step in trace.steps if step.image is not None})
    if multi_level and len(sizes) > 1:
        fact = f"puts the images of all heads side by side, but they have sizes {', '.join(map(str, sizes))}"
        return trace._replace(problems=(Problem(("multi_level",), f"{fact}; use heads of one resolution"),))
    return trace


def schedule(steps: tuple[Step, ...]) -> tuple[list[slice], int]:
    """For each step its slice of ws, and the number of styles in ws; the tokens of captions follow them."""
    slices, first, num_ws = [], 0, 0
    for step in steps:
        slices.append(slice(first, first + step.num_styles))
        num_ws = max(num_ws, first + step.num_styles)
        if not step.shares_next_style:
            first += step.num_styles
    tokens = slice(num_ws, None)
    takes_tokens = [getattr(step.spec.block, "takes_tokens", False) for step in steps]
    return [tokens if takes else each for each, takes in zip(slices, takes_tokens, strict=True)], num_ws


def image_problems(
    decoder: Autoencoder | None, image_channels: int, value_range: ValueRange, output_activation: OutputActivation
) -> list[Problem]:
    """Problems of a generator's images with their range, the activation that they pass, and their decoder."""
    problems = []
    if output_activation != "linear" and (output_activation, value_range) not in OUTPUTS:
        fact = f"{output_activation} does not give images of the value_range {value_range}"
        problems.append(Problem(("output_activation",), f"{fact}; choose symmetric, or omit output_activation"))
    if decoder is None:
        return problems
    if output_activation != "linear":
        fact = f"is {output_activation}, and the latents of a decoder have no range"
        problems.append(Problem(("output_activation",), f"{fact}; omit it"))
    if decoder.latent_channels != image_channels:
        fact = f"decodes latents of {decoder.latent_channels} channels, but the synthesis makes {image_channels}"
        problems.append(Problem(("decoder",), f"{fact}; set image_channels to {decoder.latent_channels}"))
    if value_range != "symmetric":
        fact = f"is {value_range}, and latents have no range of an image"
        problems.append(Problem(("value_range",), f"{fact}; omit it where there is a decoder"))
    return problems
