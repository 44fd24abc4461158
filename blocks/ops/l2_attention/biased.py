"""L2 attention as dot-product attention with a bias of -|k|^2 per key."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from blocks.ops.l2_attention.dot_product import DotProduct
from blocks.ops.l2_attention.reference import Sign, center, squared_norms


class Biased(DotProduct):
    """Dot-product attention with a bias per key, for float32 and float64 without gradients of the keys."""

    name, priority = "biased", 20

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, squared: bool = True, key_norms: Tensor | None = None, **_: object
    ) -> list[str]:
        reasons = super().unsupported(q, k, v, squared=squared)
        if q.dtype in (torch.bfloat16, torch.float16):
            reasons.append(f"norms in {q.dtype} lose small differences of distance")
        if torch.is_grad_enabled() and (k.requires_grad or (key_norms is not None and key_norms.requires_grad)):
            reasons.append("fused kernels compute no gradient of the bias, and the keys need it")
        return reasons

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
        norms = squared_norms(k) if key_norms is None else key_norms
        bias = (sign * scale * norms)[..., None, :]
        y: Tensor = self.attend(q * (-2 * sign), k, v, bias=bias, scale=scale)
        return y
