"""FlashAttention: tiles of the attention matrix stay on the chip.

FlashAttention-2, Dao 2023, https://arxiv.org/abs/2307.08691.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.ops.attention.fused import Fused, few_keys

MULTIPLE = 8  # of channels
LARGEST_HEAD = 256


class Flash(Fused):
    """SDPA's FlashAttention-2 on CUDA: half precision, no bias."""

    name, priority = "flash", 25
    operator = torch.ops.aten._scaled_dot_product_flash_attention

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, scale: float | None = None
    ) -> list[str]:
        reasons = super().unsupported(q, k, v, bias=bias, scale=scale)
        if bias is not None:
            reasons.append("takes no bias")
        if v.shape[-1] != q.shape[-1] or q.shape[-1] > LARGEST_HEAD:
            reasons.append(f"needs one head size of at most {LARGEST_HEAD}, not {q.shape[-1]} and {v.shape[-1]}")
        return reasons

    def drawbacks(self, q: Tensor, k: Tensor, v: Tensor, **_: object) -> list[str]:
        return few_keys(k)

    def run(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m e"],
        *,
        bias: Float[Tensor, "*#h #n #m"] | None = None,
        scale: float | None = None,
    ) -> Float[Tensor, "b h n e"]:
        assert bias is None, "FlashAttention takes no bias"
        dim = q.shape[-1]
        scale = dim**-0.5 if scale is None else scale
        if missing := -dim % MULTIPLE:
            q, k, v = (F.pad(x, (0, missing)) for x in (q, k, v))
        y: Tensor = self.operator(q, k, v, scale=scale)[0]
        return y[..., :dim] if missing else y
