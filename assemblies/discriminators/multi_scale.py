"""Several discriminators, each of the image at another scale.

pix2pixHD, Wang et al. 2017, https://arxiv.org/abs/1711.11585, section 3.2.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from assemblies.discriminator import Discriminator, LayeredDiscriminator
from assemblies.synthesis import ValueRange
from assemblies.trace import Trace
from blocks.common.shapes import check_nchw
from blocks.families import Resolution
from registry import IncompatibleError, Problem, Slot, Spec


class MultiScaleDiscriminator(Discriminator, kind="multi-scale"):
    """Discriminator i gets the image downsampled by 2^i; the logits are concatenated.

    Args:
        resolution: Height and width of the images, in pixels.
        image_channels: Channels of the images.
        cond_dim: Features of the condition c; 0 for none.
        num_tokens: Number of the condition's tokens.
        value_range: Range of the images' values.
        discriminators: Discriminators of any kind: the first of the whole image, the next of half its height and width,
            and so on. Pixels are averaged.
    """

    examples: ClassVar[tuple[Any, ...]] = (
        {"spec": {"discriminators": [{"kind": "layered", **LayeredDiscriminator.examples[0]["spec"]}] * 2}},
    )

    def __init__(
        self,
        resolution: Resolution,
        image_channels: int = 3,
        cond_dim: int = 0,
        num_tokens: int = 0,
        value_range: ValueRange = "symmetric",
        *,
        discriminators: Annotated[tuple[Slot[Discriminator], ...], Field(min_length=1, max_length=8)],
    ) -> None:
        super().__init__()
        self.resolution, self.image_channels, self.value_range = resolution, image_channels, str(value_range)
        self.cond_dim, self.num_tokens = cond_dim, num_tokens
        trace = _trace(discriminators, resolution, image_channels, cond_dim, num_tokens)
        if trace.problems:
            raise IncompatibleError(trace.problems)
        context: dict[str, Any] = {"image_channels": image_channels, "cond_dim": cond_dim, "num_tokens": num_tokens}
        context["value_range"] = value_range
        self.sizes = [_scaled(resolution, index) for index in range(len(discriminators))]
        self.discriminators = nn.ModuleList(
            self.fill(f"discriminators.{index}", spec, resolution=size, **context)
            for index, (spec, size) in enumerate(zip(discriminators, self.sizes, strict=True))
        )

    @classmethod
    def trace(
        cls, spec: Spec, resolution: tuple[int, int], image_channels: int = 3, cond_dim: int = 0, num_tokens: int = 0
    ) -> Trace:
        assert isinstance(spec, cls.Spec)
        return _trace(spec.discriminators, resolution, image_channels, cond_dim, num_tokens)

    def forward(self, image: Float[Tensor, "b k h w"], c: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b n"]:
        check_nchw(self, image, name="image")
        logits = []
        for discriminator, size in zip(self.discriminators, self.sizes, strict=True):
            scaled = image if size == tuple(image.shape[2:]) else F.adaptive_avg_pool2d(image, size)
            logits.append(discriminator(scaled, c).flatten(1))
        return torch.cat(logits, dim=1)


def _scaled(resolution: tuple[int, int], index: int) -> tuple[int, int]:
    return resolution[0] >> index, resolution[1] >> index


def _trace(specs: tuple[Any, ...], resolution: tuple[int, int], *context: int) -> Trace:
    """The steps of all discriminators, one after the other."""
    whole = Trace((), ())
    for index, spec in enumerate(specs):
        path, size = ("discriminators", index), _scaled(resolution, index)
        if not all(size):
            fact = f"gets images of {resolution[0]} x {resolution[1]} pixels downsampled by {2**index}; remove it"
            return whole._replace(problems=(*whole.problems, Problem(path, fact)), complete=False)
        trace = spec.block.trace(spec, size, *context)
        steps = tuple(step._replace(path=(*path, *step.path)) for step in trace.steps)
        problems = tuple(problem.under(*path) for problem in trace.problems)
        whole = Trace((*whole.steps, *steps), (*whole.problems, *problems), whole.complete and trace.complete)
    return whole
