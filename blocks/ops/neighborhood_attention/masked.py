"""Neighborhood attention of small maps: attention over the whole map, masked outside the window.

It multiplies more than it needs and still wins while the map is small: matrix products are what machines do best.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from blocks.ops.attention import attention, relative_bias
from blocks.ops.neighborhood_attention.windows import pairs
from registry import Kernel

MOST_PIXELS = 400  # measured on a CPU: with more of them, tiles are faster
MOST_WINDOWS = 64


class Masked(Kernel):
    """Dense attention under a mask, for maps of few pixels and of few windows."""

    op = "neighborhood_attention"
    name = "masked"
    priority = 40
    second_order = True

    def unsupported(self, q: Tensor, k: Tensor, v: Tensor, *, kernel_size: int, **_: object) -> list[str]:
        height, width = q.shape[1:3]
        most = min(MOST_PIXELS, MOST_WINDOWS * kernel_size**2)
        if height * width <= most:
            return []
        return [f"{height} x {width} px are more than {most}, and it compares every pixel with every other"]

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
        near_rows, rows = pairs(height, kernel_size, dilation, q.device)
        near_columns, columns = pairs(width, kernel_size, dilation, q.device)
        visible = (near_rows[:, None, :, None] & near_columns[None, :, None, :]).flatten(2).flatten(0, 1)
        table = q.new_zeros(()) if bias is None else relative_bias(bias, rows, columns)
        q, k, v = (x.flatten(1, 2).transpose(1, 2) for x in (q, k, v))  # b heads pixels head_dim
        # the reference and no fused kernel, since this kernel promises a second derivative
        mixed = attention.reference.run(q, k, v, bias=table.masked_fill(~visible, -math.inf), scale=scale)
        y: Tensor = mixed.transpose(1, 2).unflatten(1, (height, width))
        return y
