"""L2 attention as dot-product attention of longer vectors: -2 q.k + |k|^2 = (-2 q, 1).(k, |k|^2)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.common.autocast import at_least_float32
from blocks.ops.l2_attention.dot_product import DotProduct
from blocks.ops.l2_attention.reference import Sign, center, squared_norms

FEWEST_KEYS = 512  # measured on a CPU: with fewer, copying the longer vectors costs more than fusing saves
EXTRA_CHANNELS = 8  # for the norms; fused kernels need head sizes that are multiples of 8


class Augmented(DotProduct):
    """Dot-product attention of vectors with the norms as extra channels; with all first gradients."""

    name, priority = "augmented", 10

    def drawbacks(self, q: Tensor, k: Tensor, v: Tensor, **_: object) -> list[str]:
        return [f"only pays off from {FEWEST_KEYS} keys on"] if k.shape[-2] < FEWEST_KEYS else []

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
        norms = squared_norms(k) if key_norms is None else at_least_float32(key_norms)
        # three low-precision numbers sum to a float32 norm; one alone would lose small differences of distance
        parts = [norms.to(q.dtype)]
        if q.dtype in (torch.bfloat16, torch.float16):
            for _ in range(2):
                norms = norms - parts[-1].to(norms.dtype)
                parts.append(norms.to(q.dtype))
        unused = EXTRA_CHANNELS - len(parts)
        ones = q.new_full((), sign).expand(*q.shape[:-1], len(parts))
        longer_q = F.pad(torch.cat([q * (-2 * sign), ones], -1), (0, unused))
        longer_k = F.pad(torch.cat([k, torch.stack(parts, -1)], -1), (0, unused))
        longer_v = F.pad(v, (0, longer_q.shape[-1] - v.shape[-1]))  # fused kernels need one head size for k and v
        y: Tensor = self.attend(longer_q, longer_k, longer_v, scale=scale)
        return y[..., : v.shape[-1]]
