"""Path length: a step of fixed size in the space of styles shall change the image by a fixed amount, from anywhere.

StyleGAN2, Karras et al. 2020, https://arxiv.org/abs/1912.04958, section 3.2 and appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from blocks.families import Batch, Networks, Regularizer


class PathLength(Regularizer, kind="path-length"):
    """weight (|J^T y| - a)^2, mean over the batch; J is the image's derivative by its styles, y an image of noise.

    |J^T y| is the root of the squared gradient's mean over the style vectors, summed over their features; its running
    mean a moves first, and with a gradient. The image counts in the generator's own range.

    Args:
        weight: Weight of the penalty.
        decay: Share of the batch's mean in the running mean of the lengths.
        batch_shrink: Only the first of so many parts of the batch is looked at, to save memory.
    """

    side = "generator"
    second_order = True
    synced_buffers = ("mean",)
    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"weight": 1.5, "decay": 0.5, "batch_shrink": 1, "every": 4}},)
    mean: Tensor

    def __init__(
        self,
        *,
        weight: NonNegativeFloat = 2.0,
        decay: Annotated[float, Field(gt=0, le=1)] = 0.01,
        batch_shrink: PositiveInt = 2,
    ) -> None:
        super().__init__()
        self.weight, self.decay, self.batch_shrink = weight, decay, batch_shrink
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        assert batch.z is not None, "the path length is that of latents"
        num = max(1, len(batch.z) // self.batch_shrink)
        c = None if batch.generator_c is None else batch.generator_c[:num]
        generator: Any = networks.generator
        lengths = self.lengths(generator.synthesis, generator.mapping(batch.z[:num], c))
        return self.penalties(lengths).mean() * self.weight

    def lengths(
        self,
        synthesis: Callable[[Tensor], Tensor],
        ws: Float[Tensor, "b n s"],
        noise: Float[Tensor, "b k h w"] | None = None,
    ) -> Float[Tensor, " b"]:
        """How fast each image moves with its styles, in the direction of some noise, N(0,1) in each pixel."""
        ws = ws if ws.requires_grad else ws.detach().requires_grad_()  # a mapping may be frozen
        image = synthesis(ws)
        noise = torch.randn_like(image) if noise is None else noise
        pixels = math.sqrt(image.shape[2] * image.shape[3])
        (gradient,) = torch.autograd.grad((image * noise).sum() / pixels, ws, create_graph=True)
        return gradient.square().sum(dim=2).mean(dim=1).sqrt()

    def penalties(self, lengths: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """(length - mean)^2 by the running mean, which these lengths move; not where they are not finite."""
        mean = self.mean + self.decay * (lengths.mean() - self.mean)
        moved = mean.detach().to(self.mean.dtype)
        with torch.no_grad():
            self.mean.copy_(torch.where(moved.isfinite(), moved, self.mean))
        return (lengths - mean).square()
