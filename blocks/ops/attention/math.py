"""Attention by PyTorch's own formula of matrix products and a softmax."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops.attention.sdpa import one_dtype
from registry import Kernel


class Math(Kernel):
    """SDPA's back end for any device and dtype, differentiable any number of times; half precision in float32."""

    op, name, priority = "attention", "math", -1
    second_order, forward_ad = True, True

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, scale: float | None = None
    ) -> list[str]:
        return one_dtype(q, k, v)

    def run(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m e"],
        *,
        bias: Float[Tensor, "*#h #n #m"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b h n e"]:
        bias = None if bias is None else bias.to(q.dtype)
        y: Tensor = torch.ops.aten._scaled_dot_product_attention_math(q, k, v, bias, scale=scale)[0]
        return y
