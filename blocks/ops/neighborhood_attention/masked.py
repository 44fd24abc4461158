"""Neighborhood attention on small maps as dense attention with a mask.

It computes more products than needed and is still the fastest on small maps, as one large matrix product.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops.attention import attention, relative_bias
from blocks.ops.neighborhood_attention.windows import pairs
from registry import Kernel

MOST_PIXELS = 400  # measured on a CPU: with more, tiles are faster
MOST_WINDOWS = 64


class Masked(Kernel):
    """Dense attention with a mask, for maps of few pixels and few windows."""

    op, name, priority = "neighborhood_attention", "masked", 40
    second_order, forward_ad = True, True

    def unsupported(self, q: Tensor, k: Tensor, v: Tensor, *, kernel_size: int, **_: object) -> list[str]:
        height, width = q.shape[1:3]
        most = min(MOST_PIXELS, MOST_WINDOWS * kernel_size**2)
        if height * width <= most:
            return []
        return [f"compares all pixels with each other, so its maps have at most {most} px"]

    def run(
        self,
        q: Float[Tensor, "b h w n d"],
        k: Float[Tensor, "b h w n d"],
        v: Float[Tensor, "b h w n d"],
        *,
        kernel_size: int,
        dilation: int = 1,
        bias: Float[Tensor, "n r r"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b h w n d"]:
        height, width = q.shape[1:3]
        visible_rows, rows = pairs(height, kernel_size, dilation, q.device)
        visible_columns, columns = pairs(width, kernel_size, dilation, q.device)
        visible = (visible_rows[:, None, :, None] & visible_columns[None, :, None, :]).flatten(2).flatten(0, 1)
        table = q.new_zeros(()) if bias is None else relative_bias(bias, rows, columns)
        q, k, v = (x.flatten(1, 2).transpose(1, 2) for x in (q, k, v))  # b heads pixels head_dim
        # the reference and no fused kernel, since this kernel promises a second derivative
        y: Tensor = attention.reference.run(q, k, v, bias=table.masked_fill(~visible, -math.inf), scale=scale)
        return torch.unflatten(y.transpose(1, 2), 1, (height, width))
