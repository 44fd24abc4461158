"""Scaled dot-product attention: softmax(scale q k^T + bias) v.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.1.
"""

from __future__ import annotations

from blocks.ops.attention.compiled import Compiled
from blocks.ops.attention.cudnn import Cudnn
from blocks.ops.attention.efficient import Efficient
from blocks.ops.attention.flash import Flash
from blocks.ops.attention.math import Math
from blocks.ops.attention.position_bias import relative_bias
from blocks.ops.attention.reference import Reference, softmax
from blocks.ops.attention.sdpa import Sdpa
from registry import Op

__all__ = ["attention", "relative_bias", "softmax"]

attention = Op("attention", Reference(), Flash(), Cudnn(), Efficient(), Compiled(), Sdpa(), Math())
"""Call: (q, k, v, *, bias=None, scale=None) with q [B,heads,N,d], k [B,heads,M,d], v [B,heads,M,e] -> [B,heads,N,e].

`bias` broadcasts to [heads,N,M] or [B,heads,N,M] and is added to the scaled logits; `scale` defaults to d ** -0.5.
"""
