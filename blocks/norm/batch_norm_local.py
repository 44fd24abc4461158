"""Batch normalisation over small parts of the batch, the same in training and evaluation: nothing is tracked.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515, whose discriminator's heads normalise virtual batches
of 8 images; batch normalisation: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from blocks.common.autocast import at_least_float32
from blocks.families import Norm


class BatchNormLocal(Norm, kind="batch-norm-local"):
    """Each channel to mean 0 and deviation 1 over the pixels of a group of consecutive images of the batch.

    A batch of B is cut into the fewest groups of at most `group_size`, as even as may be: what one image becomes
    depends on the others of its group.

    Args:
        dim: Channels C of the map.
        group_size: Images of a group, at most.
        affine: Whether each channel has a learned gain and bias.
        eps: Added to the variance.
    """

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {}}, {"spec": {"group_size": 1, "affine": False}})

    def __init__(
        self,
        dim: int,
        *,
        group_size: PositiveInt = 8,
        affine: bool = True,
        eps: Annotated[float, Field(gt=0)] = 1e-5,
    ) -> None:
        super().__init__()
        self.group_size, self.eps = group_size, eps
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None
        self.bias = nn.Parameter(torch.zeros(dim)) if affine else None

    def forward(self, x: Float[Tensor, "b h w c"], w: Float[Tensor, "b s"] | None = None) -> Float[Tensor, "b h w c"]:
        wide, batch = at_least_float32(x), x.shape[0]
        groups = -(-batch // self.group_size)
        if batch % groups == 0:
            y = self.normal(wide.reshape(groups, -1, *wide.shape[1:])).flatten(0, 1)
        else:
            y = torch.cat([self.normal(part[None])[0] for part in wide.tensor_split(groups)])
        if self.weight is not None and self.bias is not None:
            y = y * self.weight.to(y.dtype) + self.bias.to(y.dtype)
        return y.to(x.dtype)

    def normal(self, groups: Float[Tensor, "g b h w c"]) -> Float[Tensor, "g b h w c"]:
        variance, mean = torch.var_mean(groups, (1, 2, 3), correction=0, keepdim=True)
        return (groups - mean) * torch.rsqrt(variance + self.eps)
