"""Spiral attention: each pixel attends to a sunflower of pixels around it, turned a little for each head.

The pattern is Vogel's: point k stands at the golden angle times k and at a radius that grows as the square root of k,
so that a few points cover a disc evenly. Vogel 1979, https://doi.org/10.1016/0025-5564(79)90080-4.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from blocks.common.linear import linear
from blocks.families import Attention, Resolution
from registry import incompatible

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


class SpiralAttention(Attention, kind="spiral"):
    """Multi-head attention of each pixel to points on a spiral around it; points outside the map are left out.

    Args:
        dim: Channels C of the map; heads share them evenly.
        resolution: Height and width of the map, in pixels.
        num_heads: Heads; the spiral of each is turned by another part of a full turn.
        num_points: Points of a spiral, the pixel itself among them.
        reach: Radius of a spiral, in pixels.
        equalized: Whether the linear maps have equalised learning rate.
    """

    examples = ({"spec": {"num_heads": 2, "num_points": 5, "reach": 2.5}},)

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
        self.num_heads = num_heads
        self.qkv = linear(dim, 3 * dim, equalized=equalized)
        self.proj = linear(dim, dim, equalized=equalized)
        heads, height, width = torch.arange(num_heads), *resolution
        radius = reach * (torch.arange(num_points) / num_points).sqrt()
        angle = GOLDEN_ANGLE * torch.arange(num_points) + 2 * math.pi / num_heads * heads[:, None]  # head point
        y = (radius * angle.sin()).round().long()[:, None, None] + torch.arange(height)[:, None, None]  # head y 1 point
        x = (radius * angle.cos()).round().long()[:, None, None] + torch.arange(width)[:, None]  # head 1 x point
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        context = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
        self.register_buffer("inside", inside.flatten(1, 2), persistent=False)  # head pixel point
        self.register_buffer("place", context.flatten(1, 2), persistent=False)
        self.register_buffer("head", heads[:, None, None], persistent=False)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        q, k, v = self.qkv(x).flatten(1, 2).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        keys, values = k[:, self.head, self.context], v[:, self.head, self.context]  # batch head pixel point head_dim
        scores = (q[..., None, :] * keys).sum(dim=-1) / math.sqrt(q.shape[-1])
        weights = scores.masked_fill(~self.inside, -math.inf).softmax(dim=-1)
        y = (weights[..., None] * values).sum(dim=-2)
        return self.proj(y.transpose(1, 2).reshape(x.shape))
