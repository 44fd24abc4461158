"""A discriminator as a list of steps: stems make features of the image, layers transform them, heads output logits."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from assemblies.limits import MAX_STEPS, check_memory
from assemblies.trace import ForwardState, Trace, trace_once, trace_steps, unused_steps
from blocks.common.shapes import check_condition
from blocks.condition.tokens import caption_embedding, token_embeddings
from blocks.families import Head, Layer, Projector, Resolution, Stem, WeightNorm
from blocks.weight_norm.apply import normalize_weights
from registry import Block, IncompatibleError, Problem, Slot, Spec, build_at, incompatible


class Discriminator(Block, nn.Module, family="discriminator"):
    """Scores images: image [B,K,H,W], c [B,cond_dim] or None -> logits [B,...], high for real images.

    Context: resolution, image_channels, cond_dim, num_tokens and value_range, all from the generator. A discriminator
    keeps each of them that it takes as an attribute of that name. Images are in the value range.
    """

    @classmethod
    def trace(
        cls, spec: Spec, resolution: tuple[int, int], image_channels: int, cond_dim: int, num_tokens: int = 0
    ) -> Trace:
        """Shapes, sizes and problems of the discriminator that `spec` describes; nothing is allocated."""
        raise NotImplementedError

    @classmethod
    def max_frozen(cls, trace: Trace) -> int:
        """The largest number of steps that `freeze` accepts for a discriminator of this trace."""
        return 0

    def freeze(self, count: int) -> None:
        """Freeze the first `count` steps: Freeze-D, Mo et al. 2020, https://arxiv.org/abs/2002.10964."""
        if count:
            raise NotImplementedError

    def forward(self, image: Float[Tensor, "b k h w"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b ..."]:
        raise NotImplementedError


class LayeredDiscriminator(Discriminator, kind="layered"):
    """A list of steps: a stem first, then layers and optionally more stems, and one or more heads.

    With `checkpoint`, in training mode, the backward pass recomputes the activations of the steps.

    Args:
        resolution: Height and width of the images, in pixels.
        image_channels: Channels of the images.
        cond_dim: Features of the condition c; 0 for none.
        num_tokens: Number of the condition's tokens; heads get its other part alone.
        steps: Stems, layers, projectors and heads. Layers accept `repeat`.
        weight_norm: Reparametrisation of the weights of all linear layers and convolutions.
    """

    examples: ClassVar = (
        {
            "spec": {
                "steps": [
                    {"kind": "from-rgb", "dim": 8},
                    {"kind": "residual-conv", "dim": 12},
                    {"kind": "minibatch-std"},
                    {"kind": "conv", "dim": 8},
                    {"kind": "linear"},
                ]
            }
        },
    )

    checkpoint: bool = False

    def __init__(
        self,
        resolution: Resolution,
        image_channels: int = 3,
        cond_dim: int = 0,
        num_tokens: int = 0,
        *,
        steps: Annotated[tuple[Slot[Stem | Layer | Projector | Head], ...], Field(max_length=MAX_STEPS)],
        weight_norm: Slot[WeightNorm] | None = None,
    ) -> None:
        super().__init__()
        self.resolution, self.image_channels = resolution, image_channels
        self.cond_dim, self.num_tokens = cond_dim, num_tokens
        trace = _trace(steps, resolution, image_channels, cond_dim, num_tokens)
        if trace.problems:
            raise IncompatibleError(trace.problems)
        check_memory(trace.parameters)
        self.steps = nn.ModuleList(build_at(step.path, step.spec, **step.context) for step in trace.steps)
        if weight_norm is not None:
            normalize_weights(self.steps, weight_norm)

    @classmethod
    def trace(
        cls, spec: Spec, resolution: tuple[int, int], image_channels: int = 3, cond_dim: int = 0, num_tokens: int = 0
    ) -> Trace:
        assert isinstance(spec, cls.Spec)
        return _trace(spec.steps, resolution, image_channels, cond_dim, num_tokens)

    @classmethod
    def max_frozen(cls, trace: Trace) -> int:
        return len(trace.steps) - 1

    def freeze(self, count: int) -> None:
        self.steps[:count].requires_grad_(False)

    def forward(self, image: Float[Tensor, "b k h w"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b ..."]:
        if self.num_tokens:
            check_condition(self, c, self.cond_dim, image)
        state = DiscriminatorState(image, c, self.num_tokens)
        state.checkpoint = self.checkpoint and self.training
        for block in self.steps:
            state.advance(block)
        assert state.logits is not None
        return state.logits

    def projected_tokens(
        self, image: Float[Tensor, "b k h w"], c: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b n f"]:
        """The tokens of the first projector; the steps after it are left out.

        Raises:
            ValueError: The discriminator has no projector.
        """
        state = DiscriminatorState(image, c, self.num_tokens)
        for block in self.steps:
            if isinstance(block, Projector):
                tokens: Tensor = block(state.features)
                return tokens
            state.advance(block)
        raise ValueError("the discriminator has no projected tokens; add a step token-projector to it")


class DiscriminatorState(ForwardState):
    """The image, features and logits of a discriminator."""

    def __init__(self, image: Tensor, c: Tensor | None, num_tokens: int) -> None:
        self.image = image
        self.c = c if c is None else caption_embedding(c, num_tokens)
        self.tokens = token_embeddings(c, num_tokens) if c is not None and num_tokens else None

    def context(self, spec: Spec) -> dict[str, object]:
        assert self.image is not None
        cond_dim = 0 if self.c is None else self.c.shape[1]
        context = {"image_channels": self.image.shape[1], "cond_dim": cond_dim} | self.feature_context()
        if getattr(spec.block, "takes_tokens", False) and self.tokens is not None:
            context["style_dim"] = self.tokens.shape[2]
        if issubclass(spec.block, Stem):
            return context | {"resolution": tuple(self.image.shape[2:])}
        if self.features is None:
            raise incompatible((), f"{spec.kind} needs features; begin with a stem such as from-rgb")
        return context

    def advance(self, block: nn.Module) -> None:
        if isinstance(block, Stem):
            self.features, self.image = self.run(block, self.features, self.image)
        elif isinstance(block, Head):
            logits = self.run(block, self.features, self.c)
            if self.logits is not None:
                logits = torch.cat([self.logits.flatten(1), logits.flatten(1)], dim=1)
            self.logits = logits
        elif not isinstance(block, Projector):  # a side branch, see `projected_tokens`
            tokens = self.tokens if getattr(block, "takes_tokens", False) else None
            self.features = self.run(block, self.features, tokens)


CONTEXT = ("resolution", "image_channels", "cond_dim", "num_tokens", "value_range")


def discriminator_context(generator: Any) -> dict[str, Any]:
    """The context of the discriminator of a generator."""
    return {name: getattr(generator, name) for name in CONTEXT}


def _trace(
    steps: tuple[Any, ...], resolution: tuple[int, int], image_channels: int, cond_dim: int, num_tokens: int
) -> Trace:
    context = ("discriminator", *resolution, image_channels, cond_dim, num_tokens)
    with torch.device("meta"):
        image = torch.zeros(1, image_channels, *resolution)
        c = torch.zeros(1, cond_dim) if cond_dim else None
    return trace_once(steps, context, lambda: _trace_steps(steps, DiscriminatorState(image, c, num_tokens)))


def _trace_steps(steps: tuple[Any, ...], state: DiscriminatorState) -> Trace:
    trace = trace_steps("steps", steps, state)
    if not trace.problems and (not trace.steps or trace.steps[-1].logits is None):
        return trace._replace(problems=(Problem(("steps",), "no step outputs logits; add a head such as linear"),))
    problems = trace.problems or unused_steps("steps", steps, Head, Projector, cure="a head such as linear")
    return trace._replace(problems=problems)
