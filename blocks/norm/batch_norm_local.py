"""Batch normalisation over small groups of the batch, without running statistics: training and evaluation are the same.

StyleGAN-T, Sauer et al. 2023, https://arxiv.org/abs/2301.09515: its discriminator heads normalise virtual batches of 8
images; batch normalisation: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from blocks.common.autocast import at_least_float32
from blocks.common.shapes import check_nhwc
from blocks.families import Norm


class BatchNormLocal(Norm, kind="batch-norm-local"):
    """Normalises each channel over all pixels of a group of consecutive images.

    A batch of B is split into the smallest number of groups of at most `group_size` images, as even as possible. The
    output for an image depends on the other images of its group. After torch.export, batches that
    split in another way than the traced one raise.

    Args:
        dim: Channels C of the map.
        group_size: Maximum number of images in a group.
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
        self.dim, self.group_size, self.eps = dim, group_size, eps
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None
        self.bias = nn.Parameter(torch.zeros(dim)) if affine else None

    def forward(self, x: Float[Tensor, "b h w c"], w: Float[Tensor, "b s"] | None = None) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        wide, batch = at_least_float32(x), x.shape[0]
        groups = -(-batch // self.group_size)
        if batch == 0:
            y = wide
        elif batch % groups == 0:
            y = self.normalize(wide.reshape(groups, batch // groups, *wide.shape[1:])).flatten(0, 1)
        else:
            y = torch.cat([self.normalize(group[None])[0] for group in wide.tensor_split(groups)])
        if self.weight is not None and self.bias is not None:
            y = y * self.weight.to(y.dtype) + self.bias.to(y.dtype)
        return y.to(x.dtype)

    def normalize(self, groups: Float[Tensor, "g b h w c"]) -> Float[Tensor, "g b h w c"]:
        centred = groups - groups.mean((1, 2, 3), keepdim=True)
        variance = centred.square().mean((1, 2, 3), keepdim=True)  # on CPUs three times as fast as torch.var_mean
        return centred * torch.rsqrt(variance + self.eps)
