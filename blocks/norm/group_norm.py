"""Group normalisation: mean and standard deviation over a group of channels and all pixels of an image.

Wu and He 2018, https://arxiv.org/abs/1803.08494.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, cast

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from blocks.common.autocast import at_least_float32
from blocks.common.divisors import nearest_divisors
from blocks.common.shapes import check_nhwc
from blocks.families import Norm, to_nchw, to_nhwc
from blocks.norm.moments import channel_moments, reads_once
from blocks.ops.bias_act import bias_act
from registry import incompatible
from registry.kernels import is_transformed


class GroupNorm(Norm, kind="group-norm"):
    """Group norm with a learned gain and bias per channel; statistics are computed in at least float32.

    Args:
        dim: Channels C of the map.
        num_groups: Number of groups of consecutive channels; has to divide C.
        eps: Added to the variance.

    Raises:
        IncompatibleError: `dim` does not divide by `num_groups`.
    """

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"num_groups": 4}},)

    def __init__(self, dim: int, *, num_groups: PositiveInt = 32, eps: Annotated[float, Field(gt=0)] = 1e-5) -> None:
        super().__init__()
        if dim % num_groups:
            fact = f"{dim} channels do not split evenly into {num_groups} groups"
            raise incompatible("num_groups", f"{fact}; take {nearest_divisors(dim, num_groups)}")
        self.num_groups, self.eps = num_groups, eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.scale_and_shift = bias_act.bind()

    def forward(self, x: Float[Tensor, "b h w c"], w: Float[Tensor, "b s"] | None = None) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.weight.shape[0])
        if reads_once(x):
            gain, shift = self.affine(x)
            return cast(Tensor, self.scale_and_shift(x, shift, scale=gain, dim=-1))
        wide = at_least_float32(to_nchw(x))
        # no gain and bias here: with them the backward pass crashes on CPU (torch 2.13) if x needs no gradient
        normalized = to_nhwc(F.group_norm(wide, self.num_groups, eps=self.eps))
        memory = None if torch.is_grad_enabled() or is_transformed() else normalized  # of the result
        return torch.addcmul(self.bias.to(wide.dtype), normalized, self.weight.to(wide.dtype), out=memory).to(x.dtype)

    def affine(self, x: Float[Tensor, "b h w c"]) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
        """The norm of this x as a gain and a shift of each channel."""
        mean, variance = (torch.unflatten(each, 1, (self.num_groups, -1)) for each in channel_moments(x))
        group_mean = mean.mean(2, keepdim=True)
        group_variance = (variance + (mean - group_mean).square()).mean(2, keepdim=True)
        gain = (torch.rsqrt(group_variance + self.eps) * self.weight.view(self.num_groups, -1)).flatten(1)
        return gain, self.bias - group_mean.expand_as(mean).flatten(1) * gain
