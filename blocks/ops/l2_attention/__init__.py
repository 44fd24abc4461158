"""L2 attention: each query takes the mean of the values, weighted by how near their keys are.

Kim et al. 2021, https://arxiv.org/abs/2006.04710, section 3.3; in discriminators: ViTGAN, Lee et al. 2022,
https://arxiv.org/abs/2107.04589, section 3.2.

The square of a distance is |q|^2 - 2 q.k + |k|^2. Softmax does not see the first term, which all keys share, so that
what remains is attention by products with a bias of each key: fused kernels of `attention` serve it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from blocks.common.autocast import at_least_float32
from blocks.ops.attention import attention, softmax
from registry import Kernel, Op

Sign = Literal[-1, 1]
FEWEST_KEYS = 512  # measured on a CPU: below, copying the longer vectors costs more than fusing saves
SPARE = 8  # columns that take the bias: head sizes stay multiples of 8, which fused kernels want


def squared_norms(x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
    """|x|^2 in at least float32."""
    return at_least_float32(x).square().sum(-1)


class Reference(Kernel):
    """Distances and a softmax; can be differentiated as often as one likes, a distance of zero too."""

    op, name, second_order = "l2_attention", "reference", True

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
            q, k = centred(q, k)
        wide_q, wide_k = at_least_float32(q), at_least_float32(k)
        norms = squared_norms(k) if key_norms is None else key_norms
        far = norms[..., None, :] - 2 * wide_q @ wide_k.mT  # and |q|^2, which no softmax sees
        if not squared:
            far = root(far + squared_norms(q)[..., None], squared_norms(q)[..., None] + norms[..., None, :])
        return softmax(sign * scale * far, v.dtype) @ v


class Products(Kernel):
    """What both ways to attention by products share: they ride on the op `attention`, whose kernels come and go."""

    op = "l2_attention"

    attend: Callable[..., Any] = attention

    def unavailable(self) -> str | None:
        self.attend = attention.bind()  # asked when a block is built, which is when kernels are looked up
        return None

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, squared: bool = True, key_norms: Tensor | None = None, **_: object
    ) -> list[str]:
        reasons = [] if squared else ["only squared distances are sums of products"]
        if not q.dtype == k.dtype == v.dtype:
            reasons.append(f"q, k and v should have one dtype, not {q.dtype}, {k.dtype} and {v.dtype}")
        return reasons


class Biased(Products):
    """Attention by products with the bias -|k|^2 of each key."""

    name, priority = "biased", 20

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, squared: bool = True, key_norms: Tensor | None = None, **_: object
    ) -> list[str]:
        reasons = super().unsupported(q, k, v, squared=squared)
        if q.dtype in (torch.bfloat16, torch.float16):
            reasons.append(f"norms in {q.dtype} lose small differences of distance")
        if torch.is_grad_enabled() and (k.requires_grad or (key_norms is not None and key_norms.requires_grad)):
            reasons.append("fused kernels give no gradient of the bias, and of the keys it is one")
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
            q, k = centred(q, k)
        norms = squared_norms(k) if key_norms is None else key_norms
        bias = (sign * scale * norms)[..., None, :]
        y: Tensor = self.attend(q * (-2 * sign), k, v, bias=bias, scale=scale)
        return y


class Augmented(Products):
    """Attention by products of longer vectors, -2 q.k + |k|^2 = (-2 q, 1).(k, |k|^2): with all gradients."""

    name, priority = "augmented", 10

    def unsupported(
        self, q: Tensor, k: Tensor, v: Tensor, *, squared: bool = True, key_norms: Tensor | None = None, **_: object
    ) -> list[str]:
        reasons = super().unsupported(q, k, v, squared=squared)
        if k.shape[-2] < FEWEST_KEYS:
            reasons.append(f"pays from {FEWEST_KEYS} keys on")
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
            q, k = centred(q, k)
        norms = squared_norms(k) if key_norms is None else at_least_float32(key_norms)
        # a sum of three numbers of low precision is a float32; one alone would lose small differences of distance
        parts = [norms.to(q.dtype)]
        if q.dtype in (torch.bfloat16, torch.float16):
            for _ in range(2):
                norms = norms - parts[-1].to(norms.dtype)
                parts.append(norms.to(q.dtype))
        empty = SPARE - len(parts)
        ones = q.new_full((), sign).expand(*q.shape[:-1], len(parts))
        longer_q = F.pad(torch.cat([q * (-2 * sign), ones], -1), (0, empty))
        longer_k = F.pad(torch.cat([k, torch.stack(parts, -1)], -1), (0, empty))
        longer_v = F.pad(v, (0, longer_q.shape[-1] - v.shape[-1]))  # fused kernels want one head size
        y: Tensor = self.attend(longer_q, longer_k, longer_v, scale=scale)
        return y[..., : v.shape[-1]]


def centred(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Both from the mean key on: distances stay, and less is cancelled when they are computed from norms.

    The mean counts as a constant, since no distance depends on it.
    """
    middle = at_least_float32(k).mean(-2, keepdim=True).detach().to(k.dtype)
    return q - middle, k - middle


def root(square: Tensor, size: Tensor) -> Tensor:
    """The root of a difference of terms of this size; what rounding leaves counts as zero, with a gradient of zero."""
    zero = square <= 8 * torch.finfo(square.dtype).eps * size
    return square.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


l2_attention = Op("l2_attention", Reference(), Biased(), Augmented())
"""Call: (q, k, v, *, squared=True, sign=-1, scale=None, key_norms=None), shapes as in `attention`.

softmax(sign scale |q - k|^2) v, without the square if not `squared`; `scale` is d ** -0.5 by default. Sign -1 is the
attention of which Kim et al. prove that it is Lipschitz; ViTGAN prints +1. `key_norms` [B,heads,M] stands in for |k|^2,
as in ViTGAN's published code, where the mean of q^2 over its channels does.
"""
