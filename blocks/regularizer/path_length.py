"""Path length regularisation: a step of fixed size in style space should change the image by a fixed amount.

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

from blocks.common.recompute import is_recomputing
from blocks.families import Batch, Networks, Regularizer
from blocks.families.training import detached_mean
from registry import incompatible


class PathLength(Regularizer, kind="path-length"):
    """weight (|J^T y| - a)^2, mean over the batch; J is the Jacobian of the image by its styles, y is N(0,1) noise.

    |J^T y| is the square root of the squared gradient, summed over the features of a style vector and averaged over the
    vectors. a is its running mean, updated before it is used and part of the graph. The image is in the generator's
    range.

    Args:
        num_styles: Number of style vectors that the generator uses.
        weight: Weight of the penalty.
        decay: Weight of the batch's mean in the running mean of the lengths.
        batch_shrink: Divisor of the batch of a process: only its first part is used, to save memory.

    Raises:
        IncompatibleError: The generator uses no styles.
    """

    side = "generator"
    second_order = True
    needs_batch_mean = True
    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"weight": 1.5, "decay": 0.5, "batch_shrink": 1, "every": 4}},)
    mean: Tensor

    def __init__(
        self,
        num_styles: int | None = None,
        *,
        weight: NonNegativeFloat = 2.0,
        decay: Annotated[float, Field(gt=0, le=1)] = 0.01,
        batch_shrink: PositiveInt = 2,
    ) -> None:
        super().__init__()
        if num_styles == 0:
            raise incompatible((), "the generator uses no style vectors; remove path-length, or add a step with styles")
        self.weight, self.decay, self.batch_shrink = weight, decay, batch_shrink
        self.register_buffer("mean", torch.zeros(()))

    def select(self, batch: Batch) -> Batch:
        """Latents and conditions of the first images."""
        assert batch.z is not None, "path length needs latents"
        num = max(1, batch.z.shape[0] // self.batch_shrink)
        z, c, tokens = (None if each is None else each[:num] for each in (batch.z, batch.c, batch.tokens))
        return Batch(z=z, c=c, tokens=tokens)

    def forward(self, networks: Networks, batch: Batch) -> Float[Tensor, ""]:
        assert batch.z is not None, "path length needs latents"
        generator: Any = networks.generator
        lengths = self.lengths(generator.synthesis, generator.mapping(batch.z, batch.generator_c))
        return self.penalties(lengths, networks.batch_mean(lengths)).mean() * self.weight

    def lengths(
        self,
        synthesis: Callable[[Tensor], Tensor],
        ws: Float[Tensor, "b n s"],
        noise: Float[Tensor, "b k h w"] | None = None,
    ) -> Float[Tensor, " b"]:
        """|J^T y| of each image; `noise` is y, N(0,1) in each pixel if None."""
        ws = ws if ws.requires_grad else ws.detach().requires_grad_()  # the mapping may be frozen
        image = synthesis(ws)
        noise = torch.randn_like(image) if noise is None else noise
        pixels = math.sqrt(image.shape[2] * image.shape[3])
        (gradient,) = torch.autograd.grad((image * noise).sum() / pixels, ws, create_graph=True)
        return gradient.square().sum(dim=2).mean(dim=1).sqrt()

    def penalties(
        self, lengths: Float[Tensor, " b"], batch_mean: Float[Tensor, ""] | None = None
    ) -> Float[Tensor, " b"]:
        """(length - mean)^2 after a batch has updated the running mean; a mean that is not finite does not update it.

        The gradients of micro-batches add up to that of the whole batch: the derivative by the running mean is that of
        the whole batch's mean penalty, 2 (mean - batch_mean).

        Args:
            lengths: Lengths of the images of the batch, or of a micro-batch.
            batch_mean: Their mean over the whole batch, without gradients; None if these are all lengths.
        """
        batch_mean = detached_mean(lengths) if batch_mean is None else batch_mean
        if is_recomputing():  # the first pass has updated it
            mean = self.mean.clone()
        else:
            mean = self.mean.lerp(batch_mean.to(self.mean.dtype), self.decay)
            self.mean.copy_(torch.where(mean.isfinite(), mean, self.mean))
        through_mean = 2 * self.decay * (batch_mean - mean) * (lengths.mean() - lengths.mean().detach())
        return (lengths - mean).square() - through_mean
