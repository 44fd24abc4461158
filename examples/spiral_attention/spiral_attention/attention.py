"""Spiral attention: each pixel attends to points of a sunflower spiral around it, rotated for each head.

Point k of Vogel's spiral is at angle k times the golden angle and at a radius proportional to sqrt(k), so that few
points cover a disc evenly. Vogel 1979, https://doi.org/10.1016/0025-5564(79)90080-4.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from blocks.common.computed_buffer import computed_buffer
from blocks.common.linear import linear
from blocks.common.shapes import check_nhwc, check_resolution
from blocks.families import Attention, Resolution
from registry import incompatible

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


class SpiralAttention(Attention, kind="spiral"):
    """Multi-head attention of each pixel to points on a spiral around it; points outside the map are masked.

    Args:
        dim: Channels C of the map; heads share them evenly.
        resolution: Height and width of the map, in pixels.
        num_heads: Number of heads. Their spirals are rotated by equal parts of a full turn.
        num_points: Points of a spiral, including the pixel itself.
        reach: Radius of a spiral, in pixels.
        equalized: Whether the linear layers have equalised learning rate.
    """

    examples: ClassVar[tuple[Any, ...]] = ({"spec": {"num_heads": 2, "num_points": 5, "reach": 2.5}},)
    points: Tensor

    def __init__(
        self,
        dim: int,
        resolution: Resolution,
        *,
        num_heads: PositiveInt = 4,
        num_points: PositiveInt = 16,
        reach: PositiveFloat = 4.0,
        equalized: bool = False,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise incompatible("num_heads", f"{dim} channels do not split evenly over {num_heads} heads")
        self.dim, self.resolution, self.num_heads = dim, resolution, num_heads
        self.qkv = linear(dim, 3 * dim, equalized=equalized)
        self.proj = linear(dim, dim, equalized=equalized)
        computed_buffer(self, "points", spiral_points, resolution, num_heads, num_points, reach)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        check_nhwc(self, x, self.dim)
        check_resolution(self, x.shape[1], x.shape[2], self.resolution)
        q, k, v = self.qkv(x).flatten(1, 2).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        heads, points = torch.arange(self.num_heads, device=x.device)[:, None, None], self.points.clamp(min=0)
        keys, values = k[:, heads, points], v[:, heads, points]  # batch head pixel point head_dim
        scores = (q[..., None, :] * keys).sum(dim=-1) / math.sqrt(q.shape[-1])
        weights = scores.masked_fill(self.points < 0, -math.inf).softmax(dim=-1)
        y = (weights[..., None] * values).sum(dim=-2)
        return self.proj(y.transpose(1, 2).reshape(x.shape))


def spiral_points(
    resolution: tuple[int, int], num_heads: int, num_points: int, reach: float
) -> Int64[Tensor, "head pixel point"]:
    """Indices of the pixels that each pixel attends to in each head; -1 for points outside the map."""
    heads, (height, width) = torch.arange(num_heads), resolution
    radius = reach * (torch.arange(num_points) / num_points).sqrt()
    angle = GOLDEN_ANGLE * torch.arange(num_points) + 2 * math.pi / num_heads * heads[:, None]  # head point
    y = (radius * angle.sin()).round().long()[:, None, None] + torch.arange(height)[:, None, None]  # head y 1 point
    x = (radius * angle.cos()).round().long()[:, None, None] + torch.arange(width)[:, None]  # head 1 x point
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return torch.where(inside, y * width + x, -1).flatten(1, 2)
