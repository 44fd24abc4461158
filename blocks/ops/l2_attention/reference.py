"""L2 attention as distances and a softmax, and the parts that its kernels share."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.common.autocast import at_least_float32
from blocks.ops.attention import softmax
from registry import Kernel

Sign = Literal[-1, 1]


def squared_norms(x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
    """|x|^2 in at least float32."""
    return at_least_float32(x).square().sum(-1)


def center(q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h m d"]) -> tuple[Tensor, Tensor]:
    """Subtract the mean key from both: distances stay the same, and norms cancel less when subtracted.

    The mean is detached, since no distance depends on it.
    """
    mean = at_least_float32(k).mean(-2, keepdim=True).detach().to(k.dtype)
    centered = k - mean
    return centered if q is k else q - mean, centered  # tied queries and keys are one tensor


def safe_sqrt(square: Tensor, magnitude: Tensor) -> Tensor:
    """Square root of a difference of terms of this magnitude; rounding residue counts as 0 and has gradient 0."""
    zero = square <= 8 * torch.finfo(square.dtype).eps * magnitude
    return square.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


class Reference(Kernel):
    """Distances and a softmax; differentiable any number of times, also at distance zero."""

    op, name = "l2_attention", "reference"
    second_order, forward_ad = True, True

    def run(
        self,
        q: Float[Tensor, "b h n d"],
        k: Float[Tensor, "b h m d"],
        v: Float[Tensor, "b h m e"],
        *,
        squared: bool = True,
        sign: Sign = -1,
        scale: float | None = None,
        key_norms: Float[Tensor, "b h m"] | None = None,
    ) -> Float[Tensor, "b h n e"]:
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        if key_norms is None:
            q, k = center(q, k)
        wide_q, wide_k = at_least_float32(q), at_least_float32(k)
        norms = squared_norms(k) if key_norms is None else key_norms
        distances = norms[..., None, :] - 2 * wide_q @ wide_k.mT  # without |q|^2, which the softmax cancels
        if not squared:
            query_norms = squared_norms(q)[..., None]
            distances = safe_sqrt(distances + query_norms, query_norms + norms[..., None, :])
        return softmax(sign * scale * distances, v.dtype) @ v
