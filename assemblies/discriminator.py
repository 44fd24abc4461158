"""A discriminator is a list too: intakes bring the image in, layers change the features, heads give logits."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from assemblies.trace import ForwardState, Trace, trace_steps
from blocks.families import Head, Layer, Resolution, Stem, WeightNorm
from blocks.weight_norm.apply import normalize_weights
from registry import Block, IncompatibleError, Problem, Slot, Spec, build_at, incompatible


class Discriminator(Block, nn.Module, family="discriminator"):
    """Judges images: image [B,K,H,W], c [B,cond_dim] or None -> logits [B,...], high for real.

    Context: resolution, image_channels, cond_dim, all taken from the generator.
    """

    @classmethod
    def trace(cls, spec: Spec, resolution: tuple[int, int], image_channels: int, cond_dim: int) -> Trace:
        """Shapes, sizes and misfits of the discriminator that `spec` describes, found without allocating it."""
        raise NotImplementedError

    def freeze(self, count: int) -> None:
        """Keep the weights of the first steps as they are: Freeze-D, Mo et al. 2020, https://arxiv.org/abs/2002.10964."""
        if count:
            raise incompatible("freeze_d", f"discriminators of kind {self.kind} cannot be frozen in part; take 0")

    def forward(self, image: Float[Tensor, "b k h w"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b ..."]:
        raise NotImplementedError


class LayeredDiscriminator(Discriminator, kind="layered"):
    """A list of steps: an intake first, then layers and perhaps more intakes, and one head or several.

    Args:
        resolution: Height and width of the images, in pixels.
        image_channels: Channels of the images.
        cond_dim: Features of the condition c; 0 for none.
        steps: Intakes, layers and heads. Layers may say `repeat`.
        weight_norm: Reparametrises the weights of all linear maps and convolutions of all steps.
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

    def __init__(
        self,
        resolution: Resolution,
        image_channels: int = 3,
        cond_dim: int = 0,
        *,
        steps: tuple[Slot[Stem | Layer | Head], ...],
        weight_norm: Slot[WeightNorm] | None = None,
    ) -> None:
        super().__init__()
        self.resolution, self.image_channels, self.cond_dim = resolution, image_channels, cond_dim
        found = _trace_steps(steps, resolution, image_channels, cond_dim)
        if found.problems:
            raise IncompatibleError(found.problems)
        self.steps = nn.ModuleList(build_at(step.path, step.spec, **step.context) for step in found.steps)
        if weight_norm is not None:
            normalize_weights(self.steps, weight_norm)

    @classmethod
    def trace(cls, spec: Spec, resolution: tuple[int, int], image_channels: int = 3, cond_dim: int = 0) -> Trace:
        assert isinstance(spec, cls.Spec)
        return _trace_steps(spec.steps, resolution, image_channels, cond_dim)

    def freeze(self, count: int) -> None:
        self.steps[:count].requires_grad_(False)

    def forward(self, image: Float[Tensor, "b k h w"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b ..."]:
        state = DiscriminatorState(image, c)
        for block in self.steps:
            state.advance(block)
        assert state.logits is not None
        return state.logits


class DiscriminatorState(ForwardState):
    """Features, image and logits on their way through a discriminator."""

    def __init__(self, image: Tensor, c: Tensor | None) -> None:
        self.image = image
        self.c = c

    def context(self, spec: Spec) -> dict[str, object]:
        assert self.image is not None
        seen = {"image_channels": self.image.shape[1], "cond_dim": 0 if self.c is None else self.c.shape[1]}
        if issubclass(spec.block, Stem):
            told = self.feature_context()
            return seen | told | {"resolution": tuple(self.image.shape[2:])}
        if self.features is None:
            raise incompatible(
                (), f"a {spec.block.family_name} needs features: the list starts with an intake such as from-rgb"
            )
        return seen | self.feature_context()

    def advance(self, block: nn.Module) -> None:
        if isinstance(block, Stem):
            self.features, self.image = block(self.features, self.image)
        elif isinstance(block, Head):
            logits = block(self.features, self.c)
            self.logits = (
                logits if self.logits is None else torch.cat([self.logits.flatten(1), logits.flatten(1)], dim=1)
            )
        else:
            self.features = block(self.features, None)


def _trace_steps(steps: tuple[Any, ...], resolution: tuple[int, int], image_channels: int, cond_dim: int) -> Trace:
    with torch.device("meta"):
        image = torch.zeros(1, image_channels, *resolution)
        c = torch.zeros(1, cond_dim) if cond_dim else None
    found = trace_steps("steps", steps, DiscriminatorState(image, c))
    if not found.problems and (not found.steps or found.steps[-1].logits is None):
        return found._replace(problems=(Problem(("steps",), "gives no logits: add a head such as linear"),))
    return found
