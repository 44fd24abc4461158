"""Attention as two matrix products and a softmax."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from registry import Kernel


def softmax(logits: Float[Tensor, "*b m"], dtype: torch.dtype) -> Float[Tensor, "*b m"]:
    """Softmax over the last axis, computed in at least float32 and returned as `dtype`."""
    return logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32)).to(dtype)


class Reference(Kernel):
    """Two matrix products and a softmax; differentiable any number of times."""

    op, name = "attention", "reference"
    second_order, forward_ad = True, True

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
