"""Attention: each query takes the mean of the values, weighted by how well their keys match it.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from registry import Kernel, Op


def softmax(logits: Float[Tensor, "*b m"], dtype: torch.dtype) -> Float[Tensor, "*b m"]:
    """Softmax over the last axis as `dtype`, its sum taken in at least float32."""
    return logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32)).to(dtype)


def relative_bias(
    table: Float[Tensor, "n r s"], rows: Int[Tensor, "h i"], columns: Int[Tensor, "w j"]
) -> Float[Tensor, "n hw ij"]:
    """A bias for each pair of pixels of two maps, from a table over their distances.

    Args:
        table: One value per head, distance in rows and distance in columns.
        rows: Where each pair of rows stands in the table.
        columns: Where each pair of columns stands in the table.
    """
    places = rows[:, None, :, None] * table.shape[2] + columns[None, :, None, :]
    chosen = table.flatten(1).index_select(1, places.flatten())  # quicker than indexing by two tensors
    return chosen.view(-1, *places.shape).flatten(3).flatten(1, 2)


class Reference(Kernel):
    """Plain products and a softmax; can be differentiated as often as one likes."""

    op = "attention"
    name = "reference"
    second_order = True

    def run(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m e"],
        *,
        bias: Float[Tensor, "*#h #n #m"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b h n e"]:
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        logits = (q * scale) @ k.transpose(-1, -2)
        return softmax(logits if bias is None else logits + bias, v.dtype) @ v


class Sdpa(Kernel):
    """PyTorch's scaled_dot_product_attention, fused where the machine can; has no second derivative."""

    op = "attention"
    name = "sdpa"
    priority = 10

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, scale: float | None = None
    ) -> list[str]:
        if q.dtype == k.dtype == v.dtype:
            return []
        return [f"q, k and v should have one dtype, not {q.dtype}, {k.dtype} and {v.dtype}"]

    def run(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m e"],
        *,
        bias: Float[Tensor, "*#h #n #m"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b h n e"]:
        if bias is not None:
            bias = bias.to(q.dtype)
            bias = bias[None] if bias.ndim == 3 else bias  # no fused kernel takes three axes
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


attention = Op("attention", Reference(), Sdpa())
"""Call: (q, k, v, *, bias=None, scale=None) with q [B,heads,N,d], k and v [B,heads,M,d] -> [B,heads,N,d].

softmax(scale q k^T + bias) v; `bias` broadcasts to [heads,N,M]; `scale` is d ** -0.5 by default.
"""
