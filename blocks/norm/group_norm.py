"""Group normalisation: groups of channels, each to mean 0 and deviation 1 over all pixels of an image.

Wu and He 2018, https://arxiv.org/abs/1803.08494.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.autocast import at_least_float32
from blocks.families import Norm, to_nchw, to_nhwc
from registry import incompatible


class GroupNorm(Norm, kind="group-norm"):
    """Group norm with a learned gain and bias per channel, its statistics taken in at least float32.

    Args:
        dim: Channels C of the map.
        num_groups: Groups of consecutive channels, which share them evenly.
        eps: Added to the variance.
    """

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"num_groups": 4}},)

    def __init__(self, dim: int, *, num_groups: PositiveInt = 32, eps: Annotated[float, Field(gt=0)] = 1e-5) -> None:
        super().__init__()
        if dim % num_groups:
            fits = max(n for n in range(1, min(num_groups, dim) + 1) if dim % n == 0)
            raise incompatible("num_groups", f"{dim} channels do not split evenly into {num_groups} groups; {fits} fit")
        self.num_groups, self.eps = num_groups, eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "b h w c"], w: Float[Tensor, "b s"] | None = None) -> Float[Tensor, "b h w c"]:
        wide = at_least_float32(to_nchw(x))
        # without gain and bias: with them the gradient crashes (torch 2.13, CPU) where x itself needs none
        normal = to_nhwc(F.group_norm(wide, self.num_groups, eps=self.eps))
        return torch.addcmul(self.bias.to(wide.dtype), normal, self.weight.to(wide.dtype)).to(x.dtype)
